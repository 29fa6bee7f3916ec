"""Stages of the workflow: read inputs, call the library, write one record."""
