"""Scoring of models on tasks."""
