// Package registry is the rack's image registry: the OCI distribution protocol under /v2/.
//
// Registry wraps distribution (github.com/distribution/distribution/v3) over a directory. What
// is ours around it: who may do what is asked of Config.Authorize for every request, with the
// repository and the action; a full disk answers 507 with a sentence instead of a bare 500;
// and GC removes every manifest that the caller does not name, with the blobs that nobody
// else needs.
//
// A blob is readable only through a repository that holds it, so that a guessed digest leads
// nowhere without a right to that repository; mounting a blob from another repository needs
// the right to pull there.
//
// # Collection beside uploads
//
// A push is many requests: blobs first, the manifest last. Two things keep GC from removing
// a blob between them. Requests that write, or ask for a blob by HEAD, pass a gate that GC
// closes, so that no request is half done while it looks. And whatever was written, mounted or
// asked for by HEAD within Config.Grace is kept, for a client that was told "exists" will not
// send it again. An upload that stalls is ended, so that it does not hold up GC for ever.
//
// GC removes tags, then manifests, then content: a crash at any moment leaves content without a
// name, which the next GC removes, and never a name without content.
//
// The package starts no goroutines. distribution logs through the standard logger of logrus,
// each 404 as an error; New silences that logger, and failed writes are logged here.
package registry
