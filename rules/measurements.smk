"""One rule for each measurement: from rows and backbones to records."""

from pathlib import Path

from coto.workspace import forget_finished

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
        group:
            ask.group(measurement, workflow)
        conda:
            "../envs/coto.yaml"
        threads: (workflow.resource_settings.cores or 4) if measurement.alone else 1
        resources:
            **ask.resources(measurement),
        params:
            command=measurement.name,
            settings=ask.settings(measurement),
            code=ask.code(measurement),
        shell:
            ask.shell


onsuccess:
    forget_finished(Path(ask.results))
