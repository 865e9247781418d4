"""What a proxyless gRPC client on the C++ core sees; the same lines in and out as the client in ../grpc-go."""

import sys
import time

import grpc

CHECK = "/grpc.health.v1.Health/Check"
channels = {}


def call(channel):
    began = time.monotonic()
    check = channel.unary_unary(CHECK)
    try:
        _, done = check.with_call(b"", timeout=30)
    except grpc.RpcError as error:
        waited = int((time.monotonic() - began) * 1000)
        return f'failed {error.code().name} {waited} "{error.details()}"'
    by = dict(done.initial_metadata())["answered-by"]
    return f"ok {by}"


for line in sys.stdin:
    target, calls = line.split()
    if target not in channels:
        channels[target] = grpc.insecure_channel(target)
    for _ in range(int(calls)):
        print(call(channels[target]), flush=True)
