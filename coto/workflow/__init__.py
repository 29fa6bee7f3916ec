"""What Snakemake runs: reading a configuration, its jobs, and the code that each job rests on."""
