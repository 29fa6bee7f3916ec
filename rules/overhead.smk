"""Training time, with the whole machine to itself."""


rule overhead:
    input:
        backbone=wire.backbone,
        train=wire.overhead_rows,
    output:
        record=wire.at(paths.overhead_record("{suite}", "{adapter}")),
    log:
        wire.log("overhead", "{suite}", "{adapter}"),
    benchmark:
        wire.benchmark("overhead", "{suite}", "{adapter}")
    conda:
        "../envs/coto.yaml"
    threads: workflow.cores or 4
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.overhead),
        code=wire.code("overhead"),
    shell:
        "python -m coto overhead --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
