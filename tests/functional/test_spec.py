from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from deploy import spec
from deploy.errors import SpecError
from deploy.types import All, Latest, Specific

HERE = Path("/somewhere/serving.yaml")
SAMPLES = sorted((Path(__file__).parents[2] / "serving_configs" / "samples").glob("*.yaml"))


def parse(text: str | bytes) -> spec.Spec:
    return spec.parse(text, HERE)


@pytest.mark.parametrize(("written", "policy"), [
    ("3", Specific((3,))), ("[2, 1]", Specific((1, 2))), ("latest", Latest(1)), ("{latest: 2}", Latest(2)),
    ("all", All()),
])
def test_version_policies(written: str, policy: object) -> None:
    assert parse(f"models: [{{name: m, versions: {written}}}]").models[0].versions == policy


def test_paths_start_at_the_file() -> None:
    read = parse("repository: ../repo\nmodels: [{name: m, versions: 1}, {name: n, versions: 1, base_path: other/n}]")
    assert [m.base_path for m in read.models] == ["/repo/m", "/somewhere/other/n"]


@pytest.mark.parametrize(("text", "path", "says"), [
    ("models: [{name: m, verions: 1}]", "models/0/verions", "did you mean 'versions'?"),
    ("server: {baching: {}}\nmodels: []", "server/baching", "did you mean 'batching'?"),
    ("server: {batching: {max_batch: 3}}\nmodels: []", "server/batching/max_batch", "did you mean 'max_batch_size'?"),
    ("models: [{name: m}]", "models/0", "versions is missing; wanted here: a version, a list of versions"),
    ("models: [{name: m, versions: newest}]", "models/0/versions",
     "'newest' can't stand here; wanted here: a version, a list of versions, latest, {latest: N} or all"),
    ("models: [{name: m, versions: []}]", "models/0/versions", "the list is empty"),
    ("models: [{name: m, versions: [1, 0]}]", "models/0/versions/1", "version 0 is not valid"),
    ("models: [{name: m, versions: -1}]", "models/0/versions", "version -1 is not valid"),
    ("models: [{name: a/b, versions: 1}]", "models/0/name", "'a/b' is not valid"),
    ("models: [{name: .., versions: 1}]", "models/0/name", "'..' is not valid"),
    ("models: [{name: a b, versions: 1}]", "models/0/name", "'a b' is not valid"),
    ("models: [{name: m, versions: 1}, {name: m, versions: 2}]", "models/1/name", "stands here and at models/0"),
    ("models: [{name: m, versions: [1], labels: {stable: 7}}]", "models/0/labels/stable", "version 7 is not served"),
    ("models: []", "models", "no model is named"),
    ("models: {m: 1}", "models", "Expected a list, got a mapping"),
    ("server: {rest_port: web}\nmodels: []", "server/rest_port", "Expected int, got text"),
    ("server: {rest_port: 70000}\nmodels: []", "server/rest_port", "70000 can't stand here: Expected int <= 65535"),
    ("server: {rest_port: 8500}\nmodels: [{name: m, versions: 1}]", "server/rest_port", "can't share port 8500"),
    ("server: {backend: podman}\nmodels: []", "server/backend", "use one of auto, container, process, embedded"),
    ("server: {flags: {port: 1}}\nmodels: [{name: m, versions: 1}]", "server/flags/port", "set server/grpc_port"),
    ("server: {flags: {--x: 1}}\nmodels: [{name: m, versions: 1}]", "server/flags/--x", "without dashes"),
    ("server: {batching: {max_batch_size: 8, allowed_batch_sizes: [4]}}\nmodels: [{name: m, versions: 1}]",
     "server/batching/allowed_batch_sizes", "end with max_batch_size"),
    ("models: [{name: 7, versions: 1}]", "models/0/name", "YAML reads this as 7; put it in quotes"),
    ("models: [{name: no, versions: 1}]", "models/0/name", "YAML reads this as false; put it in quotes"),
    ("models: [{name: m, versions: [1, 2, 1]}]", "models/0/versions/2", "version 1 stands in the list twice"),
    ("models: [{name: m, versions: 2024-01-01}]", "models/0/versions", "got a date"),
    ('models: [{name: m, versions: 1, base_path: "a\\0b"}]', "models/0/base_path", "a control character"),
    ('repository: "a\\x1bb"\nmodels: [{name: m, versions: 1}]', "repository", "a control character"),
    ("server: {drain: .nan}\nmodels: []", "server/drain", "expected a finite number, got nan"),
    ("rollout: {soak: .inf}\nmodels: []", "rollout/soak", "expected a finite number, got inf"),
    ("server: {flags: {a=1: 1}}\nmodels: [{name: m, versions: 1}]", "server/flags/a=1", "letters, digits and _ only"),
    ("server: {flags: {a --x: 1}}\nmodels: [{name: m, versions: 1}]", "server/flags/a --x", "digits and _ only"),
    ("server: {monitoring: {path: metrics}}\nmodels: []", "server/monitoring/path", "it begins with /"),
    ("server: {monitoring: {path: '/a?b'}}\nmodels: []", "server/monitoring/path", "letters, digits"),
    ("server: {monitoring: {path: /v1/models}}\nmodels: []", "server/monitoring/path", "not with /v1/"),
    ("models: [{}]", "models/0", "name is missing; wanted here: the model's name in requests"),
    ("name: a/b\nmodels: [{name: m, versions: 1}]", "name", "'a/b' is not valid"),
    ("rollout: {waves: [100%, 1]}\nmodels: [{name: m, versions: 1}]", "rollout/waves/1",
     "expected more than 100%, which have changed after the wave before, got 1; each says how many"),
    ("rollout: {waves: [1, 25%, 25%]}\nmodels: [{name: m, versions: 1}]", "rollout/waves/2", "expected more than 25%"),
    ("rollout: {waves: [3, 2]}\nmodels: [{name: m, versions: 1}]", "rollout/waves/1", "expected more than 3"),
])
def test_a_message_names_the_path(text: str, path: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)
    assert caught.value.path == path
    assert says in str(caught.value)


@pytest.mark.parametrize(("text", "says"), [("a: [", "line 1"), ("", "got nothing"), ("- a", "got a list")])
def test_what_is_no_mapping_is_refused(text: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text)


def test_bytes_are_no_yaml() -> None:
    with pytest.raises(SpecError, match="it isn't text"):
        spec.parse(b"\x00\xff\x80models", HERE)


def test_a_server_is_called_like_its_file() -> None:
    text = "models: [{name: m, versions: 1}]"
    assert spec.parse(text, HERE.with_name("canary.yaml")).name == "canary"
    assert spec.parse(f"name: own\n{text}", HERE).name == "own"
    with pytest.raises(SpecError, match=r"name: the file's name 'my spec' can't be the server's; .*`name: my-server`"):
        spec.parse(text, HERE.with_name("my spec.yaml"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match=r"nowhere\.yaml"):
        spec.load_spec(tmp_path / "nowhere.yaml")


def test_messages_of_a_file_start_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("models: [{name: m, versions: 0}]")
    with pytest.raises(SpecError, match=r"^my\.yaml: models/0/versions: version 0"):
        spec.load_spec(tmp_path / "my.yaml")


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda p: p.stem)
def test_samples_are_read_and_fit_the_schema(sample: Path) -> None:
    assert spec.load_spec(sample).models
    jsonschema.validate(yaml.safe_load(sample.read_text()), spec.json_schema())


def test_the_schema_refuses_what_we_refuse() -> None:
    schema = json.loads(json.dumps(spec.json_schema()))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": [{"name": "m", "verions": 1, "versions": 1}]}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"models": [{"name": "m", "versions": "newest"}]}, schema)


@pytest.mark.parametrize(("text", "says"), [
    ("models: []\nserver: {}\nserver: {}", "line 3: the key 'server' stands in line 2 already; one of"),
    ("models: [{name: m, versions: 1, labels: {a: 1, a: 2}}]", "line 1: the key 'a' stands in line 1 already"),
    ("models:\n- name: m\n  versions: 1\n  name: n", "line 4: the key 'name' stands in line 2 already"),
    ("models: [{name: m, versions: 1, labels: {on: 1}}]", "the key on isn't text.*true or false.*quotes: 'on'"),
    ("models: [{name: m, versions: 1, labels: {1: 1}}]", "the key 1 isn't text.*quotes: '1'"),
    ("~: 1", "the key ~ isn't text: YAML reads it as nothing"), ("2024-01-01: 1", "isn't text.*timestamp"),
    ("? [a]\n: 1", "line 1: expected a name as key, got a sequence"),
    ("models: [{name: m, versions: 010}]", "line 1: YAML reads 010 as the number 8; write 8"),
    ("models: [{name: m, versions: 1:30}]", "YAML reads 1:30 as the number 90"),
    ("[" * 20_000, "nested too deeply"), ("models: " + "9" * 5_000, "not valid YAML: Exceeds the limit"),
    ("a: 2024-13-01", "month must be in 1..12"), ("models:\n\t- a", "line 2, column 1: .*indent with spaces"),
    ("#" * (1 << 21), "expected at most 1,048,576 bytes, got 2,097,152"),
    (b"models: \xe4", "it isn't text in UTF-8"), (b"\0", "it isn't text in UTF-8"), ("", "expected a mapping with"),
    ("--- 1\n--- 2", "found another document"), ("models: !!python/name:os.system x", "could not determine"),
])
def test_what_yaml_would_lose_or_turn_round_is_refused_with_its_line(text: str | bytes, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(text)


@pytest.mark.parametrize("text", [
    b"\xef\xbb\xbfmodels: [{name: m, versions: 1}]\r\nname: x\r\n",
    "models: [{name: m, versions: 1}]".encode("utf-16"),
    b"models: [&m {name: m, versions: 1}, {<<: *m, name: n}]",
])
def test_text_of_other_editors_and_merge_keys(text: bytes) -> None:
    assert parse(text).models[0].name == "m"


ONE = "models: [{{name: m, versions: 1, base_path: {}}}]"


@pytest.mark.parametrize("address", ["s3://bucket/m", "gs://bucket/m", "hdfs://nn:9000/m", "S3://b", "az://c/m",
                                     "s3:/b/m", "abfss://c@a.dfs.core.windows.net/m", "http://h/m", "oci://r/m", "s3n+x://b"])
def test_only_local_directories_are_served(address: str) -> None:
    with pytest.raises(SpecError) as e:
        parse(ONE.format(repr(address)))
    assert e.value.path == "models/0/base_path" and e.value.exit_code == 2
    assert e.value.message == f"models/0/base_path: only local directories can be served, got {address!r}"


@pytest.mark.parametrize("address", ["hdfs://nn:9000/m", "s3:/b/m", "abfss://c@a.dfs.core.windows.net/m", "http://h/m"])
def test_addresses_of_no_store(address: str) -> None:
    with pytest.raises(SpecError, match=r"repository: .*(can't be at|isn't a whole address)"):
        parse(f"repository: {address!r}\nmodels: [{{name: m, versions: 1}}]")


@pytest.mark.parametrize("path", ["C:\\models\\m", "c:/models/m", "\\\\server\\share", ".\\models", "..\\models"])
def test_windows_paths_are_told(path: str) -> None:
    with pytest.raises(SpecError, match="Windows path"):
        parse(ONE.format(repr(path).replace("\\\\", "\\")))


@pytest.mark.parametrize("path", ["''", "' '", "~nobody-of-that-name/m"])
def test_what_cant_be_a_directory_is_told(path: str) -> None:
    with pytest.raises(SpecError, match=r"models/0/base_path: .*directory"):
        parse(ONE.format(path))


@pytest.mark.parametrize(("path", "expected"), [
    ("./m", "/somewhere/m"), ("m/", "/somewhere/m"), ("../m", "/m"), ("/abs/m/", "/abs/m"),
    ("file:///abs/m", "/abs/m"), ("file:/abs/m", "/abs/m"), ("'~/m'", str(Path.home() / "m")),
    ("a:b/m", "/somewhere/a:b/m"),
    ("c:m", "/somewhere/c:m")])
def test_local_directories(path: str, expected: str) -> None:
    assert parse(ONE.format(path)).models[0].base_path == expected


SERVER = "models: [{{name: m, versions: 1}}]\nserver: {}"


@pytest.mark.parametrize(("server", "says"), [
    ("{flags: {ssl_config_file: x}}", "server/flags/ssl_config_file: the toolkit writes this flag; set server/tls"),
    ("{flags: {use_alts_credentials: true}}", "server/flags/use_alts_credentials: .*ALTS"),
    ("{tls: {certificate: c}}", "server/tls/key is missing|key is missing"),
    ("{tls: {certificate: c, key: k, client_certificate: x}}", "server/tls: client_key is missing"),
    ("{tls: {certificate: c, key: k, client_ca: x}}", "server/tls/client_certificate: .*tfs has none"),
    ("{tls: {certificate: s3://b/c, key: k}}", "server/tls/certificate: "),
    *((f"{{platform_file: true, flags: {{{flag}: 1}}}}", f"server/flags/{flag}: .*platform file only") for flag in (
        "tensorflow_intra_op_parallelism", "saved_model_tags", "enable_model_warmup", "prefer_tflite_model",
        "per_process_gpu_memory_fraction"))])
def test_flags_that_the_toolkit_or_another_key_would_override_are_refused(server: str, says: str) -> None:
    with pytest.raises(SpecError, match=says):
        parse(SERVER.format(server))


def test_tls_files_stand_beside_the_spec() -> None:
    tls = parse(SERVER.format("{tls: {certificate: c.pem, key: /k.pem, ca: ../ca.pem}}")).server.tls
    assert tls is not None and (tls.certificate, tls.key, tls.ca) == ("/somewhere/c.pem", "/k.pem", "/ca.pem")
    assert parse(SERVER.format("{platform_file: true, flags: {grpc_max_threads: 4}}")).server.platform_file
    assert parse(SERVER.format("{flags: {use_alts_credentials: false}}")).server.flags


@pytest.mark.parametrize(("host", "meant"), [
    ("127.0.0.1", "127.0.0.1"), ("'[::1]'", "::1"), ("'::1'", "::1"), ("localhost", "localhost"),
    ("0.0.0.0", "0.0.0.0"), ("my-host.example", "my-host.example")])
def test_hosts(host: str, meant: str) -> None:
    assert parse(SERVER.format(f"{{host: {host}}}")).server.host == meant


@pytest.mark.parametrize("host", ["http://localhost", "localhost:8500", "localhost/", "'[::1]:8500'", "''", "a b", "-x",
                                  "h\u00e9", "'[localhost'"])
def test_what_is_no_host_is_told(host: str) -> None:
    with pytest.raises(SpecError, match="server/host: expected an address or name of this machine"):
        parse(SERVER.format(f"{{host: {host}}}"))


SERVERS = """
models: [{name: m, versions: 1}]
server: {backend: process, flags: {a: 1}}
servers:
- {name: a, groups: [eu, first]}
- {name: b, server: {grpc_port: 9500, rest_port: 9501, flags: {b: 2}}, repository: other}
"""


def test_each_of_several_servers_is_a_spec_of_its_own() -> None:
    read = parse(SERVERS)
    a, b = read.members
    assert (a.name, a.short_name, a.fleet, a.groups) == ("serving.a", "a", "serving", ("eu", "first"))
    assert (a.server.grpc_port, a.server.flags, a.models[0].base_path) == (8500, {"a": 1}, "/somewhere/models/m")
    assert (b.server.grpc_port, b.server.flags, b.models[0].base_path) == (9500, {"a": 1, "b": 2}, "/somewhere/other/m")
    assert a.server.backend == b.server.backend == "process"
    assert len({read.state_dir, a.state_dir, b.state_dir}) == 3
    alone = parse("models: [{name: m, versions: 1}]")
    assert alone.members == (alone,) and alone.short_name == "serving"
    jsonschema.validate(yaml.safe_load(SERVERS), spec.json_schema())


@pytest.mark.parametrize(("servers", "path", "says"), [
    ("[]", "servers", "no server is named; list at least one (- name: a)"),
    ("[{name: a}, {name: a}]", "servers/1/name", "stands here and at servers/0; name each server once"),
    ("[{name: a}, {name: b}]", "servers/1/server", "127.0.0.1:8500 is the address of servers/0, too; one server"),
    ("[{name: a, server: {grpc_prot: 1}}]", "servers/0/server/grpc_prot", "did you mean 'grpc_port'?"),
    ("[{name: a, server: {rest_port: 8500}}]", "servers/0/server/rest_port", "can't share port 8500"),
    ("[{name: a/b}]", "servers/0/name", "'a/b' is not valid"),
    ("[{name: a, groups: ['a b']}]", "servers/0/groups/0", "group 'a b' is not valid"),
    ("[{nam: a}]", "servers/0/nam", "did you mean 'name'?"),
    ("[{name: a, server: 3}]", "servers/0/server", "Expected a mapping, got int"),
    ("[{name: a, mirror: x}]", "servers/0/mirror", "so nothing is mirrored"),
])
def test_servers_that_can_not_be(servers: str, path: str, says: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(f"models: [{{name: m, versions: 1}}]\nservers: {servers}")
    assert caught.value.path == path
    assert says in str(caught.value)


@pytest.mark.parametrize("docker", ["ssh://ops@host", "ssh://host:2222", "tcp://10.0.0.7:2376", "tcp://[::1]:2376",
                                    "unix:///run/docker.sock", "prod-eu_1.a"])
def test_where_the_docker_engine_is(docker: str) -> None:
    spec = parse(f"models: [{{name: m, versions: 1}}]\nserver: {{docker: '{docker}'}}")
    assert spec.server.docker == docker


@pytest.mark.parametrize(("server", "where", "says"), [
    ("docker: 'http://host:2375'", "server/docker", "no address of a Docker engine"),
    ("docker: 'tcp://ops@host:2375'", "server/docker", "no address"),
    ("docker: 'ssh://ops:secret@host'", "server/docker", "holds a password"),
    ("docker: 'ssh://'", "server/docker", "no address"), ("docker: 'host:2375'", "server/docker", "no address"),
    ("docker: '-H'", "server/docker", "no address"), ("docker: 'unix://run/s'", "server/docker", "no address"),
    ("docker: prod, docker_tls: certs", "server/docker_tls", "tcp://"), ("docker_tls: certs", "server/docker_tls", "tcp://"),
])
def test_what_is_no_docker_engine(server: str, where: str, says: str) -> None:
    with pytest.raises(SpecError, match=says) as e:
        parse(f"models: [{{name: m, versions: 1}}]\nserver: {{{server}}}")
    assert str(e.value.path) == where and e.value.id == "bad-docker" and "secret" not in e.value.message


def test_certificates_of_the_docker_engine_are_beside_the_file() -> None:
    spec = parse("models: [{name: m, versions: 1}]\nserver: {docker: 'tcp://h:2376', docker_tls: certs}")
    assert spec.server.docker_tls == "/somewhere/certs"
