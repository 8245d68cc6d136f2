"""Manifests for Kubernetes: valid, with what processes need to find each other; options that make no sense are refused."""

import jsonschema
import pytest
import yaml

import launch
from gpt_jax.cluster.jobset import name_of
from gpt_jax.errors import INTERNAL, NON_FINITE, RESUMABLE, STORAGE, USER_ERROR
from gpt_jax.mesh.processes import Launch, find_launch
from tests.cluster.jobset_schema import JOBSET

GPUS = "image=me/gpt_jax:1,claim=runs,nodes=4,gpus=8"
TPUS = (
    "image=eu.gcr.io/me/gpt_jax@sha256:0a,claim=runs,nodes=4,tpu=tpu-v5p-slice:2x2x4,mount=/data,queue=team,restarts=3"
)
CPUS = "image=i,claim=c,gpus=0"


def written(folder, options, *words) -> dict:
    workdir = folder / "My_run.1"
    given = ["train", "--config=gpt2:124m", f"--workdir={workdir}", "--backend=k8s", "--k8s", options, *words]
    assert launch.main(given) == 0
    made = yaml.safe_load((workdir / "jobset.yaml").read_text())
    jsonschema.validate(made, JOBSET)
    return made


def job_of(made: dict) -> dict:
    (jobs,) = made["spec"]["replicatedJobs"]
    return jobs["template"]["spec"]


def container_of(made: dict) -> dict:
    (container,) = job_of(made)["template"]["spec"]["containers"]
    return container


@pytest.mark.parametrize("options, pods", [(GPUS, 4), (TPUS, 4), (CPUS, 1)])
def test_processes_find_each_other(options, pods, tmp_path):
    made = written(tmp_path, options)
    job = job_of(made)
    assert (job["parallelism"], job["completions"], job["completionMode"]) == (pods, pods, "Indexed")
    name, network = made["metadata"]["name"], made["spec"]["network"]
    assert network == {"enableDNSHostnames": True, "subdomain": name}
    for rank in range(pods):
        given = container_of(made)["env"]
        index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
        assert given[-1] == {"name": "JAX_PROCESS_ID", "valueFrom": {"fieldRef": {"fieldPath": index}}}
        env = {variable["name"]: variable.get("value", str(rank)) for variable in given}
        # <jobset>-<job>-<index of the job>-<index of the pod>.<subdomain>
        joined = Launch(pods, rank, f"{name}-train-0-0.{name}:12345", ())
        assert find_launch(env) == (joined if pods > 1 else None)


def test_a_failed_pod_starts_all_again_unless_it_would_fail_again(tmp_path):
    made = written(tmp_path, TPUS)
    assert made["spec"]["failurePolicy"]["maxRestarts"] == 3
    (rule,) = made["spec"]["failurePolicy"]["rules"]
    assert (rule["action"], rule["onJobFailureReasons"]) == ("FailJobSet", ["PodFailurePolicy"])
    job = job_of(made)
    (codes,) = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"]]
    assert job["backoffLimit"] == 0 and set(codes) == {USER_ERROR, INTERNAL, STORAGE, NON_FINITE}
    assert RESUMABLE not in codes and job["template"]["spec"]["restartPolicy"] == "Never"


def test_what_pods_run_and_have(tmp_path):
    made = written(tmp_path, GPUS, "--config.optim.lr=1e-3", "--config.mesh.fsdp=8")
    container = container_of(made)
    given = ["--config=gpt2:124m", "--config.optim.lr=1e-3", "--config.mesh.fsdp=8", "--workdir=/runs/my-run-1"]
    assert container["command"] == ["python", "-m", "gpt_jax", "train", *given]
    assert container["image"] == "me/gpt_jax:1" and container["resources"] == {"limits": {"nvidia.com/gpu": "8"}}
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in job_of(made)["template"]["spec"]["volumes"]}
    assert volumes[mounts["/runs"]]["persistentVolumeClaim"] == {"claimName": "runs"}
    assert volumes[mounts["/dev/shm"]]["emptyDir"] == {"medium": "Memory"}


def test_tpus(tmp_path):
    made = written(tmp_path, TPUS)
    labels = {"cloud.google.com/gke-tpu-accelerator": "tpu-v5p-slice", "cloud.google.com/gke-tpu-topology": "2x2x4"}
    assert job_of(made)["template"]["spec"]["nodeSelector"] == labels
    assert container_of(made)["resources"] == {"limits": {"google.com/tpu": "4"}}
    assert made["metadata"]["labels"] == {"kueue.x-k8s.io/queue-name": "team"}
    assert "--workdir=/data/my-run-1" in container_of(made)["command"]


def test_another_file_and_what_to_do_with_it(tmp_path, capsys):
    path = tmp_path / "there" / "it.yaml"
    words = ["train", "--config=quickstart", f"--workdir={tmp_path / 'q'}", "--backend=k8s"]
    assert launch.main([*words, f"--k8s=image=i,claim=c,gpus=0,file={path}"]) == 0
    assert f"kubectl apply --filename={path}\n" in capsys.readouterr().out
    assert path.exists() and not (tmp_path / "q").exists()


@pytest.mark.parametrize(
    "folder, name", [("q", "q"), ("124m", "run-124m"), ("A__b.", "a-b"), ("日", "run"), ("x" * 99, "x" * 40)]
)
def test_names(folder, name, tmp_path):
    assert name_of(tmp_path / folder) == name


@pytest.mark.parametrize(
    "options, what",
    [
        ("", "--k8s needs image, claim, gpus"),
        ("image=i,gpus=8", "--k8s needs claim"),
        ("image=i,claim=c", "--k8s needs gpus"),
        ("image=i,claim=c,gpu=8", "did you mean 'gpus'?"),
        ("image=i,claim=c,8", "'8' is not NAME=VALUE"),
        ("image=i,claim=c,gpus=8,gpus=4", "gpus is given twice"),
        ("image=i,claim=c,gpus=many", "allowed: 0 to 64"),
        ("image=i,claim=c,gpus=1,nodes=0", "allowed: 1 to"),
        ("image=a b,claim=c,gpus=1", "image=a b is not allowed"),
        ("image=i,claim=C_1,gpus=1", "claim=C_1 is not allowed"),
        ("image=i,claim=c,gpus=1,mount=runs", "mount=runs is not allowed"),
        ("image=i,claim=c,tpu=v5p", "TYPE:TOPOLOGY"),
        ("image=i,claim=c,tpu=v5p:2x2,gpus=1", "GPUs or TPUs"),
        ("image=i,claim=c,tpu=v5p:2x2x1,nodes=3", "4 chips of v5p:2x2x1 do not divide over nodes=3"),
        ("image=i,claim=c,gpus=8,nodes=3", "24"),
    ],
)
def test_options_that_make_no_sense(options, what, tmp_path, capsys):
    words = ["train", "--config=quickstart", f"--workdir={tmp_path / 'q'}", "--backend=k8s", f"--k8s={options}"]
    assert launch.main([*words, "--config.train.batch=32"]) == 2
    assert what in capsys.readouterr().err and not (tmp_path / "q").exists()


def test_the_schema_refuses_what_is_wrong(tmp_path):
    made = written(tmp_path, GPUS)
    made["spec"]["failurePolicy"]["maxRestart"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(made, JOBSET)
