"""Why adapters merge and prune as they do: their subsets, and their weights."""


rule subnetworks:
    input:
        backbone=wire.backbone,
        adapters=wire.trained_players,
        test=wire.players_rows,
    output:
        record=wire.at(paths.subnetworks_record("{suite}", "{adapter}", "{strategy}", "{seed}")),
    log:
        wire.log("subnetworks", "{suite}", "{adapter}-{strategy}", "seed{seed}"),
    benchmark:
        wire.benchmark("subnetworks", "{suite}", "{adapter}-{strategy}", "seed{seed}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.subnetworks),
        code=wire.code("subnetworks"),
    shell:
        "python -m coto subnetworks --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"


rule geometry:
    input:
        backbone=wire.backbone,
        adapters=wire.trained_variants,
    output:
        record=wire.at(paths.geometry_record("{suite}", "{adapter}")),
    log:
        wire.log("geometry", "{suite}", "{adapter}"),
    benchmark:
        wire.benchmark("geometry", "{suite}", "{adapter}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.geometry),
        code=wire.code("geometry"),
    shell:
        "python -m coto geometry --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"
