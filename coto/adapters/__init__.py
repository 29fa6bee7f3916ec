"""Adapter kinds by name, and adapters on disk."""
