// Package auth decides who may call what on a server, and holds the rack's own certificate
// authority.
//
// A caller proves itself with the secret of a token. The rack keeps only SHA-256 hashes of
// secrets. Interceptors are the one choke point of authorisation: they find the token, look
// the method up in one table (rules), and refuse what the table does not name. The app that a
// request is about is taken from the request itself, so that a token of one app reaches no
// other.
//
// The CA signs the certificates of machines and routers. Which one does is decided in the state.
package auth
