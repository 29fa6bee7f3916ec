"""What is checked before jobs go to a cluster."""

from pathlib import Path

import pytest
import yaml

from coto.errors import CotoError
from coto.workflow import cluster


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile for SLURM."""
    content = {"executor": "slurm", "default-resources": {"slurm_partition": "gpu"}}
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def test_without_a_profile_jobs_run_on_this_machine():
    assert cluster.target(["all", "--cores", "2"]).executor is None


@pytest.mark.parametrize("option", ["--profile", "--workflow-profile"])
def test_the_executor_is_the_profiles(profile: Path, option: str):
    for arguments in ([option, str(profile)], [f"{option}={profile}"]):
        assert cluster.target(["all", *arguments]).is_slurm


def test_an_executor_on_the_command_line_goes_before_the_profiles(profile: Path):
    found = cluster.target(["--workflow-profile", str(profile), "--executor", "local"])
    assert found.executor == "local"


def test_a_missing_profile_is_one_line():
    expected = "--workflow-profile = 'nope': expected a folder with a config.yaml"
    with pytest.raises(CotoError, match=f"^{expected}$"):
        cluster.target(["--workflow-profile", "nope"])


def test_a_profile_that_is_no_mapping_is_one_line(tmp_path: Path):
    (tmp_path / "config.yaml").write_text("[slurm]")
    with pytest.raises(CotoError, match="expected a mapping at the top level"):
        cluster.target(["--workflow-profile", str(tmp_path)])


def test_missing_plugin_and_programs_are_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(CotoError, match="its plugin is not installed"):
        cluster.check_slurm({})
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    monkeypatch.setattr(cluster.shutil, "which", lambda name: None)
    with pytest.raises(CotoError, match="there is no sbatch on this machine"):
        cluster.check_slurm({})


def programs(folder: Path, **outputs: str) -> None:
    """Programs that print something."""
    for name, output in outputs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\nprintf '{output}'\n")
        program.chmod(0o755)


def test_an_unknown_partition_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(cluster, "find_spec", lambda name: True)
    programs(tmp_path, sbatch="", sinfo="main*\\nlow\\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    for given in ({"slurm_partition": "gpu"}, ["slurm_partition=gpu", "mem_mb=1"]):
        with pytest.raises(CotoError, match=r"'gpu': expected one of this cluster's: low, main$"):
            cluster.check_slurm({"default-resources": given})
    cluster.check_slurm({"default-resources": {"slurm_partition": "low"}})


def test_jobs_of_this_folder_alone_are_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    rows = [f"7|coto_1f|{tmp_path}", f"8|other|{tmp_path}", "9|coto_2a|/elsewhere"]
    programs(tmp_path, squeue="\\n".join(rows) + "\\n")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert cluster.jobs_left_behind(tmp_path) == ["7"]


def test_a_cluster_that_does_not_answer_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "squeue").write_text("#!/bin/sh\necho no controller >&2\nexit 1\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(CotoError, match=r"squeue: SLURM does not answer \(no controller\)"):
        cluster.jobs_left_behind(tmp_path)
