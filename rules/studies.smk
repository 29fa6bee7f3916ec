"""Studies: suites varied on request, each with its own table and figure."""


rule trajectory:
    input:
        backbone=wire.backbone,
        adapters=wire.trained,
        test=wire.test_rows,
    output:
        record=wire.at(paths.trajectory_record("{suite}", "{adapter}", "{strategy}")),
    log:
        wire.log("trajectory", "{suite}", "{adapter}-{strategy}"),
    benchmark:
        wire.benchmark("trajectory", "{suite}", "{adapter}-{strategy}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=wire.memory,
        runtime=wire.minutes,
        gpu=wire.gpus,
    params:
        root=wire.root,
        settings=wire.settings(plan.trajectory),
        code=wire.code("trajectory"),
    shell:
        "python -m coto trajectory --settings {params.settings:q} --root {params.root:q}"
        " --threads {threads} --out {output.record} --log {log}"


rule study:
    input:
        records=wire.study_records,
    output:
        csv=report(wire.at("studies/{study}.csv"), category="Studies", caption="captions/study.rst"),
        markdown=wire.at("studies/{study}.md"),
        latex=wire.at("studies/{study}.tex"),
        png=wire.at("studies/{study}.png"),
        svg=report(wire.at("studies/{study}.svg"), category="Studies", caption="captions/study.rst"),
    log:
        wire.log("study", "{study}"),
    benchmark:
        wire.benchmark("study", "{study}")
    conda:
        "../envs/coto.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=20,
    params:
        root=wire.root,
        settings=wire.settings(plan.report_study),
        code=fingerprint(module_of("study")),
    shell:
        "python -m coto study --settings {params.settings:q} --root {params.root:q}"
        " --out {params.root:q}/studies --log {log}"


for study in plan.config.studies:

    rule:
        name:
            study
        input:
            table=wire.at(f"studies/{study}.csv"),
