"""Merged adapters: two seeds of one arm along a path, and all tasks of a suite at once."""


rule interpolate:
    input:
        adapters=wire.trained,
        test=wire.test_rows,
    output:
        record=wire.at(
            paths.interpolate_record("{suite}", "{adapter}", "{strategy}", "{seed_a}", "{seed_b}")
        ),
    log:
        wire.log(
            "interpolate",
            "{suite}",
            "{adapter}-{strategy}",
            "seed{seed_a}-seed{seed_b}",
        ),
    benchmark:
        wire.benchmark(
            "interpolate",
            "{suite}",
            "{adapter}-{strategy}",
            "seed{seed_a}-seed{seed_b}",
        )
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.interpolate),
        code=fingerprint(module_of("interpolate")),
    shell:
        "python -m coto interpolate --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"


rule merge:
    input:
        adapters=wire.trained,
        test=wire.test_rows,
    output:
        record=wire.at(paths.merge_record("{suite}", "{adapter}", "{strategy}", "{seed}")),
    log:
        wire.log("merge", "{suite}", "{adapter}-{strategy}", "seed{seed}"),
    benchmark:
        wire.benchmark("merge", "{suite}", "{adapter}-{strategy}", "seed{seed}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.merge),
        code=fingerprint(module_of("merge")),
    shell:
        "python -m coto merge --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
