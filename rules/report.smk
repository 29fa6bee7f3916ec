"""Tables, figures and claims from all records."""


rule tables:
    input:
        records=wire.records(),
    output:
        csv=[
            report(
                path,
                category="Tables",
                caption=f"captions/table_{Path(path).stem}.rst",
            )
            for path in wire.tables("csv")
        ],
        markdown=wire.tables("md"),
        latex=wire.tables("tex") if plan.config.report.tables.latex else [],
    log:
        wire.log("tables"),
    benchmark:
        wire.benchmark("tables")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        root=wire.root,
        settings=plan.tables(),
        code=fingerprint(module_of("tables")),
    shell:
        "python -m coto tables --settings {params.settings:q} --root {params.root:q}"
        " --out {params.root:q}/tables --log {log}"


rule figures:
    input:
        records=wire.records(),
    output:
        png=wire.figures("png"),
        svg=[
            report(
                path,
                category="Figures",
                caption=f"captions/figure_{Path(path).stem}.rst",
            )
            for path in wire.figures("svg")
        ],
    log:
        wire.log("figures"),
    benchmark:
        wire.benchmark("figures")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        root=wire.root,
        settings=plan.figures(),
        code=fingerprint(module_of("figures")),
    shell:
        "python -m coto figures --settings {params.settings:q} --root {params.root:q}"
        " --out {params.root:q}/figures --log {log}"


rule claims:
    input:
        records=wire.records(),
        answers=wire.answers(),
    output:
        markdown=report(wire.at("claims.md"), category="Claims", caption="captions/claims.rst"),
        csv=wire.at("claims.csv"),
        json=wire.at("claims.json"),
    log:
        wire.log("claims"),
    benchmark:
        wire.benchmark("claims")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        root=wire.root,
        settings=plan.claims(),
        code=fingerprint(module_of("claims")),
    shell:
        "python -m coto claims --settings {params.settings:q} --root {params.root:q}"
        " --out {params.root:q} --log {log}"


for suite in plan.config.suites:

    rule:
        name:
            suite
        input:
            records=wire.records(suite),


for target, files in wire.targets().items():

    rule:
        name:
            target
        input:
            files=files,
