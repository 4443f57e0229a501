"""The backends, the gateways and the tokens of `benches/load/peers`."""
import base64, hashlib, importlib.machinery, importlib.util, json, os, shutil, signal, socket, struct, subprocess, sys, threading, time
import random, selectors

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
BINARY = os.environ.get("BINARY", os.path.join(ROOT, "target/release/portcullis"))
ENVOY = os.environ.get("ENVOY", shutil.which("envoy") or "")
GATEWAY_CORE, OTHER_CORE = 0, 1
GZIP_LEVEL = 5
MESSAGE = b"m" * 64  # of a WebSocket
EVENT = b"data: $" + b"e" * 100 + b"\n\n"  # the dollar is counted
STREAMS, EVENTS_PER_SECOND = 200, 50
SMALL = json.dumps({"id": 42, "name": "Ada Lovelace", "tags": ["a", "b", "c"], "address": {"city": "London"}, "note": "x" * 200})


def instructions():
    """The neighbour that knows how to sign with the test keys."""
    loader = importlib.machinery.SourceFileLoader("instructions", os.path.join(ROOT, "benches/instructions"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("instructions", loader))
    loader.exec_module(module)
    return module


SIGNING = instructions()


def es256_tokens(number):
    """Different tokens, quickly: all have the same nonce, which only a key without secrets may have."""
    secret = SIGNING.unsigned(SIGNING.KEYS["ec256"]["d"])
    nonce, left, point, step = 0x1234567890ABCDEF << 160, 0x1234567890ABCDEF << 160, None, SIGNING.BASE
    while left:
        point = SIGNING.add(point, step) if left & 1 else point
        step, left = SIGNING.add(step, step), left >> 1
    r, inverse = point[0] % SIGNING.ORDER, pow(nonce, -1, SIGNING.ORDER)
    head = SIGNING.encoded(json.dumps({"alg": "ES256", "kid": "ec256", "typ": "JWT"}).encode())
    for i in range(number):
        claims = {"iss": "https://idp.example/", "aud": "http://api.example.com", "sub": f"user-{i:06}", "iat": 1760000000,
                  "exp": 4102444800, "scope": "read:profile write:profile", "roles": ["user", "admin"], "jti": f"{i:08}"}
        signed = f"{head}.{SIGNING.encoded(json.dumps(claims).encode())}"
        digest = int.from_bytes(hashlib.sha256(signed.encode()).digest(), "big")
        s = inverse * (digest + r * secret) % SIGNING.ORDER
        yield f"{signed}.{SIGNING.encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def rsa_public_pem():
    """The public RSA key as HAProxy reads it (RFC 8017 A.1.1, in a SubjectPublicKeyInfo)."""
    def der(tag, *parts):
        body = b"".join(parts)
        size = len(body).to_bytes((len(body).bit_length() + 7) // 8, "big")
        return bytes([tag]) + (bytes([len(body)]) if len(body) < 128 else bytes([0x80 | len(size)]) + size) + body

    integer = lambda text: der(2, b"\0" + base64.urlsafe_b64decode(text + "=="))
    key = SIGNING.KEYS["rsa"]
    exponent = der(2, base64.urlsafe_b64decode(key["e"] + "=="))
    algorithm = bytes.fromhex("300d06092a864886f70d0101010500")
    info = der(0x30, algorithm, der(3, b"\0", der(0x30, integer(key["n"]), exponent)))
    return "-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(info).decode() + "-----END PUBLIC KEY-----\n"


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def await_port(port, process, log):
    for _ in range(1200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if process.poll() is not None:
                break
            time.sleep(0.05)
    sys.exit(f"{' '.join(process.args)} does not listen:\n{open(log).read()[-2000:]}")


def head(stream):
    """The head of a message, and what came behind it."""
    read = b""
    while b"\r\n\r\n" not in read:
        more = stream.recv(4096)
        if not more:
            raise OSError(f"closed after {read!r}")
        read += more
    return read.split(b"\r\n\r\n", 1)


def stream_backend(listener):
    """A process: /ws echoes messages of one size, /sse sends events to all its clients at the same time. It never returns."""
    chooser, streams, lock = selectors.DefaultSelector(), [], threading.Lock()
    size = 6 + len(MESSAGE)

    def tick():
        chunk = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
        while True:
            time.sleep(1 / EVENTS_PER_SECOND)
            with lock:
                for stream in list(streams):
                    try:
                        stream.send(chunk)
                    except OSError:
                        streams.remove(stream)

    def welcome():
        while True:
            stream, _ = listener.accept()
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                text = head(stream)[0].decode()
                if "/sse" in text.split("\r\n")[0]:
                    stream.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
                    with lock:
                        streams.append(stream)
                    continue
                key = next(line.split(": ")[1] for line in text.split("\r\n") if line.lower().startswith("sec-websocket-key"))
                accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
                stream.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n")
                chooser.register(stream, selectors.EVENT_READ)
            except (OSError, StopIteration):
                stream.close()

    for work in (tick, welcome):
        threading.Thread(target=work, daemon=True).start()
    # Frames of a server have no mask. The mask of the client is all zeros, so the text stays as it is.
    answer = b"\x81" + bytes([len(MESSAGE)]) + MESSAGE
    while True:
        for key, _ in chooser.select(0.05):
            try:
                data = key.fileobj.recv(65536)
                if not data or data[0] != 0x81:
                    raise OSError
                key.fileobj.sendall(answer * (len(data) // size))
            except OSError:
                chooser.unregister(key.fileobj)
                key.fileobj.close()


class Lab:
    """Starts servers in a folder and ends them."""

    def __init__(self, folder):
        self.folder, self.processes, self.forked = folder, {}, None
        os.chmod(folder, 0o755)
        for name, kind in (("rsa", ["rsa:2048"]), ("ec", ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"])):
            subprocess.run(["openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout",
                            self.path(f"{name}.key"), "-out", self.path(f"{name}.crt")], check=True, stderr=subprocess.DEVNULL)
            self.put(f"{name}.both", open(self.path(f"{name}.crt")).read() + open(self.path(f"{name}.key")).read())
        self.put("rsa.pem", rsa_public_pem())
        self.put("jwks.json", json.dumps(SIGNING.key_set()))
        self.put("small", SMALL)
        rng = random.Random(17)
        user = lambda i: {"id": i, "name": "".join(rng.choices("abcdefghij ", k=16)), "score": rng.random(), "active": i % 3 == 0}
        self.put("doc", json.dumps([user(i) for i in range(120)]))
        self.put("page", json.dumps([user(i) for i in range(12000)]))
        self.backend, self.h2c, self.streams = free_port(), free_port(), free_port()

    def path(self, name):
        return os.path.join(self.folder, name)

    def put(self, name, text):
        with open(self.path(name), "w") as file:
            file.write(text)
        return self.path(name)

    def spawn(self, name, command, port, cores):
        log = open(self.path(f"{name}.log"), "w")
        env = {**os.environ, "USAGE_DISABLE": "1", "RUNTIME_DIRECTORY": self.folder}
        begin = time.monotonic()
        process = subprocess.Popen(["taskset", "-c", cores, *command], stdout=log, stderr=subprocess.STDOUT, env=env)
        self.processes[name] = process
        await_port(port, process, log.name)
        return process.pid, time.monotonic() - begin

    def stop(self):
        if self.forked:
            os.kill(self.forked, signal.SIGKILL)
            os.waitpid(self.forked, 0)
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(1)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def backends(self):
        conf = self.put("backend.conf", f"""worker_processes 1; daemon off; pid {self.path("backend.pid")};
error_log {self.path("backend.err")} crit;
events {{ worker_connections 19900; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type application/json; sendfile on;
  server {{ listen 127.0.0.1:{self.backend} backlog=8192; listen 127.0.0.1:{self.h2c} http2 backlog=4096; root {self.folder};
    location = /post {{ return 200 '{{"ok":true}}'; }} }} }}""")
        self.spawn("backend", ["nginx", "-c", conf], self.backend, str(OTHER_CORE))
        listener = socket.create_server(("127.0.0.1", self.streams), backlog=4096)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            try:
                os.sched_setaffinity(0, {OTHER_CORE})
                stream_backend(listener)
            finally:
                os._exit(1)
        listener.close()
        self.forked = pid

    # Ours ---------------------------------------------------------------------------------------------------------------------

    def host(self, port):
        return [f"http://127.0.0.1:{port}"]

    def noop(self, path, url="/small", port=None, extra=None, more=None, **endpoint):
        backend = {"host": self.host(port or self.backend), "url_pattern": url, "encoding": "no-op", **(more or {})}
        return {"endpoint": path, "output_encoding": "no-op", "backend": [backend], **({"extra_config": extra} if extra else {}), **endpoint}

    def validator(self, algorithm):
        return {"auth/validator": {"alg": algorithm, "audience": ["http://api.example.com"], "issuer": "https://idp.example/",
                                   "jwk_local_path": self.path("jwks.json")}}

    def endpoints(self):
        gzip = lambda level=GZIP_LEVEL: {"portcullis/compression": {"algorithms": ["gzip"], "level": {"gzip": level}}}
        lua = "local c = ctx.load(); c:headers('X-Lua', c:headers('X-User') .. '!')"
        schema = {"type": "object", "required": ["name", "email"], "additionalProperties": False, "properties": {
            "name": {"type": "string", "minLength": 2}, "email": {"type": "string", "pattern": "^[^@]+@[^@]+$"},
            "age": {"type": "integer", "minimum": 0}, "tags": {"type": "array", "items": {"type": "string"}}}}
        data = "local d = response.load():data(); d:set('sum', d:get('id') + 1); d:del('note')"
        composed = lambda path, extra=None: {"endpoint": path, "backend": [{"host": self.host(self.backend), "url_pattern": "/small"}],
                                             **({"extra_config": extra} if extra else {})}
        post = lambda path, extra=None: self.noop(path, "/post", extra=extra, method="POST", input_headers=["Content-Type"])
        websocket = {"endpoint": "/ws", "extra_config": {"websocket": {"enable_direct_communication": True}}, "backend": [
            {"host": [f"ws://127.0.0.1:{self.streams}"], "url_pattern": "/ws", "disable_host_sanitize": True}]}
        return [
            self.noop("/plain"), self.noop("/rs256", extra=self.validator("RS256")), self.noop("/es256", extra=self.validator("ES256")),
            self.noop("/h2b", port=self.h2c, more={"extra_config": {"portcullis/upstream": {"http_version": "h2"}}}),
            self.noop("/sse", "/sse", self.streams, timeout="600s"), websocket, composed("/json"),
            self.noop("/headers", input_headers=["X-User", "X-Lua"]),
            self.noop("/lua", input_headers=["X-User", "X-Lua"], extra={"modifier/lua-endpoint": {"pre": lua}}),
            composed("/lua-data", {"modifier/lua-proxy": {"post": data}}),
            self.noop("/cel", input_headers=["X-User", "X-Lua"], extra={"validation/cel": [
                {"check_expr": "'X-User' in req_headers && req_headers['X-User'][0] in ['ada', 'bob']"}]}),
            post("/post"), post("/schema", {"validation/json-schema": schema}),
            self.noop("/doc", "/doc"), self.noop("/gzip", "/doc", extra=gzip()), self.noop("/heavy", "/page", extra=gzip(9)),
            self.noop("/loop", extra={"modifier/lua-endpoint": {"pre": "local n = 0; for i = 1, 3000000 do n = n + i % 7 end"}}),
        ]

    def ours(self, name, endpoints, threads=1, certificate=None):
        port = free_port()
        config = {"version": 3, "port": port, "listen_ip": "127.0.0.1", "timeout": "20s", "max_idle_connections_per_host": 512,
                  "idle_timeout": "600s", "endpoints": endpoints, "extra_config": {
                      "portcullis/server": {"threads": threads}, "router": {"disable_access_log": True},
                      "telemetry/logging": {"level": "CRITICAL", "stdout": True}}}
        if certificate:
            config["tls"] = {"keys": [{"public_key": self.path(f"{certificate}.crt"), "private_key": self.path(f"{certificate}.key")}]}
        file = self.put(f"{name}.json", json.dumps(config))
        cores = str(GATEWAY_CORE) if threads == 1 else f"{GATEWAY_CORE},{OTHER_CORE}"
        return self.spawn(name, [BINARY, "run", "-c", file], port, cores), port

    # nginx --------------------------------------------------------------------------------------------------------------------

    def nginx(self, name, workers=1):
        port, rsa, ec = free_port(), free_port(), free_port()
        tls = lambda kind: f"ssl_certificate {self.path(kind + '.crt')}; ssl_certificate_key {self.path(kind + '.key')};"
        places = f"""proxy_http_version 1.1; proxy_set_header Connection "";
    location = /__health {{ default_type application/json; return 200 '{{"status":"ok"}}'; }}
    location = /plain {{ proxy_pass http://u/small; }} location = /doc {{ proxy_pass http://u/doc; }}
    location = /gzip {{ gzip on; gzip_comp_level {GZIP_LEVEL}; gzip_types application/json; gzip_proxied any; proxy_pass http://u/doc; }}
    location = /heavy {{ gzip on; gzip_comp_level 9; gzip_types application/json; gzip_proxied any; proxy_pass http://u/page; }}
    location = /sse {{ proxy_pass http://127.0.0.1:{self.streams}; proxy_buffering off; proxy_read_timeout 600s; }}
    location = /ws {{ proxy_pass http://127.0.0.1:{self.streams}; proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "Upgrade"; proxy_read_timeout 600s; }}"""
        conf = self.put(f"{name}.conf", f"""worker_processes {workers}; daemon off; pid {self.path(name)}.pid;
error_log {self.path(name)}.err crit;
events {{ worker_connections 19900; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; ssl_protocols TLSv1.2 TLSv1.3;
  upstream u {{ server 127.0.0.1:{self.backend}; keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{port} backlog=8192; {places} }}
  server {{ listen 127.0.0.1:{rsa} ssl http2 backlog=4096; {tls("rsa")} {places} }}
  server {{ listen 127.0.0.1:{ec} ssl http2 backlog=4096; {tls("ec")} {places} }} }}""")
        cores = str(GATEWAY_CORE) if workers == 1 else f"{GATEWAY_CORE},{OTHER_CORE}"
        pid, _ = self.spawn(name, ["nginx", "-c", conf], port, cores)
        return pid, {"": port, "rsa": rsa, "ec": ec}

    # HAProxy ------------------------------------------------------------------------------------------------------------------

    def haproxy(self):
        port, rsa, ec = free_port(), free_port(), free_port()
        conf = self.put("haproxy.cfg", f"""global
  nbthread 1
  maxconn 9500
  tune.ssl.default-dh-param 2048
defaults
  mode http
  timeout client 600s
  timeout server 600s
  timeout tunnel 600s
  timeout connect 3s
  http-reuse always
frontend f
  bind 127.0.0.1:{port} backlog 8192
  bind 127.0.0.1:{rsa} ssl crt {self.path("rsa.both")} alpn h2,http/1.1
  bind 127.0.0.1:{ec} ssl crt {self.path("ec.both")} alpn h2,http/1.1
  http-request return status 200 content-type application/json string "{{\\"status\\":\\"ok\\"}}" if {{ path /__health }}
  acl authd path /rs256
  http-request deny deny_status 401 if authd !{{ req.hdr(authorization) -m found }}
  http-request set-var(txn.bearer) http_auth_bearer if authd
  http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss') if authd
  http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud') if authd
  http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int') if authd
  http-request deny deny_status 401 if authd !{{ var(txn.iss) -m str "https://idp.example/" }}
  http-request deny deny_status 401 if authd !{{ var(txn.aud) -m str "http://api.example.com" }}
  http-request set-var(txn.now) date() if authd
  http-request deny deny_status 401 if authd {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
  http-request deny deny_status 401 if authd !{{ var(txn.bearer),jwt_verify("RS256","{self.path("rsa.pem")}") -m int 1 }}
  use_backend streams if {{ path /ws /sse }}
  use_backend h2 if {{ path /h2b }}
  default_backend b
backend b
  http-request set-path /small if {{ path /plain /rs256 }}
  server s 127.0.0.1:{self.backend}
backend h2
  http-request set-path /small
  server s 127.0.0.1:{self.h2c} proto h2
backend streams
  server s 127.0.0.1:{self.streams}
""")
        pid, _ = self.spawn("haproxy", ["haproxy", "-f", conf, "-db"], port, str(GATEWAY_CORE))
        return pid, {"": port, "rsa": rsa, "ec": ec}

    # Envoy --------------------------------------------------------------------------------------------------------------------

    def envoy(self):
        ports = {"": free_port(), "ec": free_port(), "gzip": free_port(), "jwt": free_port()}
        kind = lambda name: f"type.googleapis.com/envoy.extensions.{name}"
        to = lambda path, cluster, url, **more: {"match": {"path": path}, "route": {"cluster": cluster, "timeout": "0s", "regex_rewrite": {
            "pattern": {"regex": ".*"}, "substitution": url}, **more}}
        routes = [to("/plain", "u", "/small"), to("/rs256", "u", "/small"), to("/h2b", "h2", "/small"), to("/gzip", "u", "/doc"),
                  to("/doc", "u", "/doc"), to("/sse", "streams", "/sse"),
                  to("/ws", "streams", "/ws", upgrade_configs=[{"upgrade_type": "websocket"}])]
        router = {"name": "router", "typed_config": {"@type": kind("filters.http.router.v3.Router"), "suppress_envoy_headers": True}}
        jwt = {"name": "jwt", "typed_config": {"@type": kind("filters.http.jwt_authn.v3.JwtAuthentication"), "providers": {"p": {
            "jwt_cache_config": {"jwt_cache_size": 100000}, "issuer": "https://idp.example/", "audiences": ["http://api.example.com"],
            "local_jwks": {"inline_string": json.dumps(SIGNING.key_set())}}},
            "rules": [{"match": {"path": "/rs256"}, "requires": {"provider_name": "p"}}]}}
        gzip = {"name": "gzip", "typed_config": {"@type": kind("filters.http.compressor.v3.Compressor"), "compressor_library": {
            "name": "gzip", "typed_config": {"@type": kind("compression.gzip.compressor.v3.Gzip"), "memory_level": 8, "window_bits": 15,
                                             "compression_level": f"COMPRESSION_LEVEL_{GZIP_LEVEL}"}}}}
        certificate = {"certificate_chain": {"filename": self.path("ec.crt")}, "private_key": {"filename": self.path("ec.key")}}
        tls = {"name": "tls", "typed_config": {"@type": kind("transport_sockets.tls.v3.DownstreamTlsContext"), "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"], "tls_certificates": [certificate]}}}

        def listener(name, filters, **chain):
            manager = {"@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"), "stat_prefix": "x",
                       "generate_request_id": False, "stream_idle_timeout": "0s", "http_filters": [*filters, router],
                       "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": routes}]}}
            return {"name": f"l-{name}", "address": {"socket_address": {"address": "127.0.0.1", "port_value": ports[name]}},
                    "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}], **chain}]}

        def cluster(name, port, **more):
            place = {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}}
            # The default of 1,024 connections and requests would reject some of 10,000 clients.
            most = {"max_connections": 100000, "max_pending_requests": 100000, "max_requests": 100000}
            return {"name": name, "type": "STATIC", "connect_timeout": "3s", "circuit_breakers": {"thresholds": [most]},
                    "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [place]}]}, **more}

        h2 = {"typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kind("upstreams.http.v3.HttpProtocolOptions"), "explicit_http_config": {"http2_protocol_options": {}}}}}
        conf = self.put("envoy.json", json.dumps({"static_resources": {
            "listeners": [listener("", []), listener("ec", [], transport_socket=tls), listener("gzip", [gzip]), listener("jwt", [jwt])],
            "clusters": [cluster("u", self.backend), cluster("h2", self.h2c, **h2), cluster("streams", self.streams)]}}))
        pid, _ = self.spawn("envoy", [ENVOY, "--concurrency", "1", "-c", conf, "-l", "critical", "--disable-hot-restart"], ports[""],
                            str(GATEWAY_CORE))
        return pid, ports
