"""Tables, figures, claims and studies, each from the records that it shows."""

for kind in ("table", "figure", "study"):

    rule:
        name:
            kind
        input:
            records=lambda w, kind=kind: ask.report_inputs(ask.target(kind, w[kind])),
        output:
            **{
                name: (
                    report(path, category=ask.category(kind), caption="captions/finding.rst")
                    if name in ("csv", "svg")
                    else path
                )
                for name, path in ask.outputs(REPORTS[kind]).items()
            },
        log:
            ask.log(REPORTS[kind]),
        benchmark:
            ask.benchmark(REPORTS[kind])
        group:
            ask.group(REPORTS[kind], workflow)
        conda:
            "../envs/coto.yaml"
        threads: 1
        resources:
            **ask.small_job,
        params:
            command=kind,
            settings=lambda w, kind=kind: ask.report_settings(ask.target(kind, w[kind])),
            code=lambda w, kind=kind: ask.report_code(ask.target(kind, w[kind])),
        shell:
            ask.shell


rule claims:
    input:
        records=ask.report_inputs("claims"),
    output:
        **{
            name: (
                report(path, category="Claims", caption="captions/claims.rst")
                if name == "markdown"
                else path
            )
            for name, path in ask.outputs(REPORTS["claims"]).items()
        },
    log:
        ask.log(REPORTS["claims"]),
    benchmark:
        ask.benchmark(REPORTS["claims"])
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        **ask.small_job,
    params:
        command="claims",
        settings=lambda w: ask.report_settings("claims"),
        code=lambda w: ask.report_code("claims"),
    shell:
        ask.shell


rule learning_rates:
    input:
        records=ask.report_inputs("learning_rates"),
        # Made first: what it shows is needed where this job refuses an end of a grid.
        table=ask.made("table_learning_rate"),
    output:
        **ask.outputs(REPORTS["learning_rates"]),
    log:
        ask.log(REPORTS["learning_rates"]),
    benchmark:
        ask.benchmark(REPORTS["learning_rates"])
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        **ask.small_job,
    params:
        command="learning_rates",
        settings=lambda w: ask.report_settings("learning_rates"),
        code=lambda w: ask.report_code("learning_rates"),
    shell:
        ask.shell


rule tables:
    input:
        ask.all_of("table"),


rule figures:
    input:
        ask.all_of("figure"),


for target, files in ask.targets().items():

    rule:
        name:
            target
        input:
            files,
