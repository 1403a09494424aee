// Package machine is who a machine of a rack is, and whom it trusts.
//
// A machine proves itself with a certificate of the rack's authority. The certificate names it
// by a URI, slipway://<cluster>/<role>/<id>, and that is what both ends of a connection check:
// addresses and host names may change, and lead through tunnels and port forwards, without a new
// certificate. An agent's certificate is never taken for a server's, nor one of another rack for
// one of this.
//
// A machine without a certificate joins with a token, which names its role and pins the authority
// that the server must show (Join). After that it renews its certificate in time (Renew), with a
// new key each time, and without a restart: the TLS configurations of an Identity always use the
// newest. It follows a rack that replaces its authority (Follow): it says what it holds, and renews as
// soon as that is not what it is to hold. A client without a certificate follows as well (Trust).
package machine
