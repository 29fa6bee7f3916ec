"""Training runs, and the choice of learning rates where a grid leaves one."""


rule train:
    input:
        backbone=wire.backbone,
        train=wire.at(paths.data("{suite}", "{task}", "train")),
        validation=wire.at(paths.data("{suite}", "{task}", "validation")),
        test=wire.at(paths.data("{suite}", "{task}", "test")),
    output:
        adapter=directory(wire.at(paths.adapter_weights(paths.RUN))),
        answers=wire.at(paths.answers(paths.RUN)),
        gradients=wire.at(paths.gradients_record(paths.RUN)),
        record=wire.at(paths.train_record(paths.RUN)),
    log:
        wire.log("train", paths.RUN),
    benchmark:
        wire.benchmark("train", paths.RUN)
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.train),
        code=wire.code("train"),
    shell:
        "python -m coto train --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --code {params.code} --adapter {output.adapter}"
        " --answers {output.answers} --gradients {output.gradients}"
        " --out {output.record} --log {log}"


rule select:
    input:
        records=wire.selection_records,
    output:
        record=wire.at(paths.select_record("{suite}", "{task}", "{adapter}", "{strategy}")),
    log:
        wire.log("select", paths.ARM),
    benchmark:
        wire.benchmark("select", paths.ARM)
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        root=wire.root,
        settings=wire.settings(plan.select),
        code=fingerprint(module_of("select")),
    shell:
        "python -m coto select --settings {params.settings:q} --root {params.root:q}"
        " --out {output.record} --log {log}"
