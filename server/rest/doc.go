// Package rest serves the rack API of Convox over HTTPS, so that an unmodified convox CLI with
// RACK_URL=https://convox:TOKEN@rack works. What differs, and why, stands in docs/convox.md.
//
// One table of routes (routes.go) is the source of everything: the mux, the parsing and the limits
// of arguments, what a token needs, the routes that answer 501, and /openapi.json. A row names the
// calls of the control API that its handler makes.
//
// The package decides nothing about the rack. A handler is a client of the control API like the
// CLI: it has an api/client over a connection inside the server, with the secret of its caller.
// Authorisation, passing on to the leader, auditing and the sentences of errors are therefore the
// very same as over gRPC, and there is no second door to guard: gate.go adds the secret and refuses
// calls that the row does not name. What Convox has and the control API does not is put together
// here: the shapes of answers (shapes.go), websockets with the exit status in band (socket.go), the
// manifest inside an uploaded source (source.go).
//
// No request holds more memory than a few chunks: sources, copies and logs are streamed, forms are
// bounded. The package starts two goroutines per open websocket, which end with it.
package rest
