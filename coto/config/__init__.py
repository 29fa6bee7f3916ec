"""The configuration: typed models, each job's part of it, fingerprints. Imports no torch."""
