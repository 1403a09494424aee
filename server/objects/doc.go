// Package objects keeps the source archives that users upload, by the digest of their content.
//
// Store owns one directory: blobs/sha256/<hex> holds finished objects, tmp holds uploads in
// progress. An object appears under its name only after its bytes are on disk (fsync, rename,
// fsync of the directory), so a crash leaves at most files in tmp, and Open removes those. A
// digest that Put returned can be read until Delete; the same bytes are stored once.
//
// A rack of several servers copies every source to all of them: Spread before an upload is
// acknowledged, Fetch for what is missing later. Handler serves the other servers, what is here
// and nothing else. How bytes come from a peer (resumed, verified, from another one if need be)
// is the matter of whoever implements Peers: server/registry.
//
// Memory use does not depend on the size of an object. The package starts no goroutines, and
// any number of callers may use a Store at once. Whoever decides which objects are still
// needed calls Collect.
package objects
