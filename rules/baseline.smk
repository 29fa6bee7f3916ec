"""What no training gives: the bare backbone, the most frequent answer, guessing."""


rule baseline:
    input:
        backbone=wire.backbone,
        train=wire.training_rows,
        test=wire.test_rows,
    output:
        record=wire.at(paths.baseline_record("{suite}")),
    log:
        wire.log("baseline", "{suite}"),
    benchmark:
        wire.benchmark("baseline", "{suite}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.baseline),
        code=wire.code("baseline"),
    shell:
        "python -m coto baseline --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
