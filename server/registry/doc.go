// Package registry is the rack's image registry: the OCI distribution protocol under /v2/.
//
// Registry wraps distribution (github.com/distribution/distribution/v3) over a directory. What
// is ours around it: who may do what is asked of Config.Authorize for every request, with the
// repository and the action; what another server of the rack took in is fetched from there; a
// full disk answers 507 with a sentence instead of a bare 500; and GC removes every manifest that
// the caller does not name, with the blobs that nobody else needs.
//
// A blob is readable only through a repository that holds it, so that a guessed digest leads
// nowhere without a right to that repository; mounting a blob from another repository needs
// the right to pull there.
//
// # Several servers
//
// Config.Peers names the others, and each serves a PeerHandler. A pull of what is missing here
// streams through from a peer and is stored. Follow makes this server hold all that the state
// names; Spread makes all servers hold one image and tells which do. DESIGN.md tells how peers
// that die, stall, crawl or lie are dealt with. Peers may be used for other content as well, and
// Replicator for whatever has to be fetched in the background.
//
// # Collection beside uploads
//
// A push is many requests: blobs first, the manifest last. Two things keep GC from removing
// a blob between them. Requests that write, or ask for a blob by HEAD, pass a gate that GC
// closes, so that no request is half done while it looks. And whatever was written, mounted or
// asked for by HEAD within Config.Grace is kept, for a client that was told "exists" will not
// send it again. An upload that stalls is ended, so that it does not hold up GC for ever. What is
// being replicated is pinned until it is complete.
//
// GC removes tags, then manifests, then content: a crash at any moment leaves content without a
// name, which the next GC removes, and never a name without content.
//
// # Goroutines
//
// Each transfer from a peer has two, which end before the last request that waits for it does.
// Follow owns all others and ends with its context. distribution logs through the standard logger
// of logrus, each 404 as an error; New silences that logger, and failed writes are logged here.
package registry
