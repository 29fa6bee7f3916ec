"""Merged adapters: seeds of one arm mixed, and all tasks of a suite at once."""


rule interpolate:
    input:
        backbone=wire.backbone,
        adapters=wire.trained,
        test=wire.test_rows,
    output:
        record=wire.at(paths.interpolate_record("{suite}", "{adapter}", "{strategy}", "{seeds}")),
    log:
        wire.log(
            "interpolate",
            "{suite}",
            "{adapter}-{strategy}",
            "seeds{seeds}",
        ),
    benchmark:
        wire.benchmark(
            "interpolate",
            "{suite}",
            "{adapter}-{strategy}",
            "seeds{seeds}",
        )
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.interpolate),
        code=wire.merging_code("interpolate"),
    shell:
        "python -m coto interpolate --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"


rule merge:
    input:
        backbone=wire.backbone,
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
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.merge),
        code=wire.merging_code("merge"),
    shell:
        "python -m coto merge --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
