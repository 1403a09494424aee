// Package router is the ingress of a node: it takes HTTP requests from outside and hands each to
// a process of the service that its host belongs to.
//
// It runs as its own process, `slipwayd router`, so that an agent may restart without cutting a
// connection. The agent is its only client: it applies route tables and learns, over a unix
// socket, which version is in force and which processes still have requests in flight. The
// router keeps its last table on disk and serves from it until the agent speaks again; it needs
// neither an agent nor a server to keep serving.
//
// # Invariants
//
//   - A try of a request sees exactly one table. Tables are immutable once compiled; a new one is swapped
//     in by one atomic store, and nothing on the path of a request takes the router's lock.
//   - When Apply returns, no request can reach a target that the table does not name. A target
//     counts its requests in the same atomic word that says whether it is retired, so a request
//     that was choosing while the table changed either is counted or chooses again.
//   - A target that left the table is reported as draining until its last request, stream and
//     upgraded connection has ended, or its drain limit has passed. Upgraded connections are
//     closed at the limit, WebSockets with status 1001 (RFC 6455 §7.4.1); requests are left to
//     the grace period of the process.
//   - A request is sent twice only when the first try cannot have been carried out: the
//     connection was never made, the kernel says that the process did not take the bytes, or the
//     method is idempotent; and never after a byte of the response was seen. A target that refuses
//     the connection is exchanged for another of the newest table, each tried once within the
//     route's timeout, and only where the route admits the client.
//   - What a client says about where it comes from is never believed: X-Forwarded-*, Forwarded,
//     X-Real-IP and their spellings with underscores are replaced by what the router knows.
//   - Framing is the router's own on both sides. A response whose length could be read in two
//     ways is a 502, and its connection is not used again.
//
// # How a request travels
//
// net/http reads it (HTTP/1.1, HTTP/2 over TLS or with prior knowledge, limits). serve.go finds the route, forward.go
// chooses a target and decides about retries, upstream.go writes the request and copies the
// response on the same goroutine over a pooled connection, which costs little more than half of
// what httputil.ReverseProxy does. Upgrades continue in upgrade.go; gRPC goes to the process
// as cleartext HTTP/2 through httputil.ReverseProxy in grpc.go.
//
// # Control protocol
//
// JSON over HTTP on a unix socket that only its owner can open:
//
//	GET  /status                       → {"revision": n, "status": api.RouterStatus}
//	GET  /status?after=n&wait=30s      the same, as soon as the revision is not n
//	PUT  /table         api.RouteTable → {"revision": n, "status": …} once it is in force
//	GET  /table                        → the api.RouteTable in force
//	PUT  /certificates/{name}  PEM     stores a certificate with its key
//	DELETE /certificates/{name}        forgets it
//	POST /handover                     passes the listeners on to the caller (see handover.go)
//	GET  /metrics                      Prometheus text
//
// Errors are api.Error as JSON. A revision says nothing but that something changed.
//
// # Goroutines
//
// Run starts one per listener, one that drains and one that sweeps idle connections and reloads
// certificates, and returns when all of them and every connection have ended. A request with a
// body too large to keep has a second goroutine that the first waits for, and so has an upgraded
// connection.
//
// Only package agent and cmd/slipwayd import this package.
package router
