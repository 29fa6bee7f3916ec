"""Trained runs with parts of their adapters removed."""


rule prune:
    input:
        adapters=wire.trained,
        test=wire.test_rows,
    output:
        record=wire.at(paths.prune_record("{suite}", "{adapter}", "{strategy}", "{seed}")),
    log:
        wire.log("prune", "{suite}", "{adapter}-{strategy}", "seed{seed}"),
    benchmark:
        wire.benchmark("prune", "{suite}", "{adapter}-{strategy}", "seed{seed}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=3000,
        runtime=120,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.prune),
        code=fingerprint(module_of("prune")),
    shell:
        "python -m coto prune --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
