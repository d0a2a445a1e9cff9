"""The embedded server's gRPC port with --ssl_config_file."""

from __future__ import annotations

from pathlib import Path

import grpc
import numpy as np
import pytest

from deploy import client
from deploy.errors import Unreachable
from deploy.types import Tls
from deploy.wire import methods, tensors
from deploy.wire import serving_pb2 as pb
from tests.support.modelserver import Process, echoable, server
from tests.support.tls import self_signed

X = {"x": np.float32([1, 2])}


@pytest.fixture(scope="module")
def pems(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tls]:
    """Two who trust in themselves."""
    return {name: self_signed(tmp_path_factory.mktemp(name)) for name in ("us", "others")}


def config(where: Path, tls: Tls, *, verify: bool = False) -> str:
    """The flag with an SSLConfig of PEM texts."""
    def quoted(path: str | None) -> str:
        return '"' + Path(path or "").read_text().replace("\n", "\\n") + '"'

    file = where / "ssl.config"
    file.write_text(f"server_key: {quoted(tls.key)}\nserver_cert: {quoted(tls.certificate)}\n"
                    f"custom_ca: {quoted(tls.ca)}\nclient_verify: {str(verify).lower()}\n")
    return f"--ssl_config_file={file}"


def flags(where: Path) -> tuple[str, ...]:
    echoable(where / "m", 1)
    return "--tfs_loader=echo", "--model_name=m", f"--model_base_path={where}/m"


def ask(running: Process, tls: Tls | None) -> list[float]:
    with client.connect(f"127.0.0.1:{running.port}", tls=tls, attempts=1, timeout=5) as connection:
        return list(connection.predict("m", X)["y"])


def test_only_who_trusts_it_is_answered(tmp_path: Path, pems: dict[str, Tls]) -> None:
    with server(tmp_path, *flags(tmp_path), config(tmp_path, pems["us"])) as running:
        assert ask(running, Tls(pems["us"].ca)) == [1, 2]
        for stranger in (None, Tls(pems["others"].ca)):
            with pytest.raises(Unreachable):
                ask(running, stranger)
        assert ask(running, Tls(pems["us"].ca)) == [1, 2]


def test_clients_may_have_to_show_a_certificate(tmp_path: Path, pems: dict[str, Tls]) -> None:
    with server(tmp_path, *flags(tmp_path), config(tmp_path, pems["us"], verify=True)) as running:
        assert ask(running, pems["us"]) == [1, 2]
        impostor = Tls(pems["us"].ca, pems["others"].certificate, pems["others"].key)
        for stranger in (Tls(pems["us"].ca), impostor):
            with pytest.raises(Unreachable):
                ask(running, stranger)


def test_a_key_of_another_certificate_ends_the_start(tmp_path: Path, pems: dict[str, Tls]) -> None:
    mixed = Tls(pems["us"].ca, pems["us"].certificate, pems["others"].key)
    with server(tmp_path, *flags(tmp_path), config(tmp_path, mixed), wait=False) as running:
        assert running.ended() == 255
        text = running.log.read_text()
        assert "Failed to BuildAndStart gRPC server" in text
        assert "PRIVATE KEY" not in text


def test_long_messages_and_thousands_of_calls_take_turns_over_tls_too(tmp_path: Path, pems: dict[str, Tls]) -> None:
    credentials = grpc.ssl_channel_credentials(Path(pems["us"].ca or "").read_bytes())
    request = pb.PredictRequest(model_spec=pb.ModelSpec(name="m"))
    request.inputs["x"].CopyFrom(tensors.encode(np.ones(2, np.float32)))
    with server(tmp_path, *flags(tmp_path), config(tmp_path, pems["us"])) as running, \
            grpc.secure_channel(f"127.0.0.1:{running.port}", credentials) as channel, \
            client.connect(f"127.0.0.1:{running.port}", tls=Tls(pems["us"].ca), attempts=1, timeout=20) as other:
        call = channel.unary_unary(methods.PREDICT, lambda m: m.SerializeToString(), pb.PredictResponse.FromString)
        pending = [call.future(request, timeout=60) for _ in range(2000)]
        long = np.arange(900_000, dtype=np.float32)  # 3.6 MB, near to what clients take by default
        assert np.array_equal(other.predict("m", {"x": long})["y"], long)
        assert {p.result().outputs["y"].tensor_shape.dim[0].size for p in pending} == {2}
