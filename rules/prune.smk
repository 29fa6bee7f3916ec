"""Trained runs with parts of their adapters removed."""


rule prune:
    input:
        backbone=wire.backbone,
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
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.prune),
        code=wire.code("prune"),
    shell:
        "python -m coto prune --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
