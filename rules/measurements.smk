"""One rule for each measurement: from rows and backbones to records."""

for measurement in MEASUREMENTS.values():

    rule:
        name:
            measurement.name
        input:
            unpack(ask.inputs(measurement)),
        output:
            **{
                name: directory(path) if name in measurement.folders else path
                for name, path in ask.outputs(measurement).items()
            },
        log:
            ask.log(measurement),
        benchmark:
            ask.benchmark(measurement)
        conda:
            "../envs/coto.yaml"
        threads: (workflow.resource_settings.cores or 4) if measurement.alone else 1
        group:
            ask.group(measurement, workflow)
        resources:
            **ask.resources(measurement),
        params:
            command=measurement.name,
            settings=ask.settings(measurement),
            code=ask.code(measurement),
        shell:
            ask.shell
