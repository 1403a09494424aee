// Package rotation takes the replacement of the rack's certificate authority from stage to stage.
//
// A new authority is added and trusted beside the one that signs. When every machine says that it
// trusts the new one, it signs. When every machine says that it has a certificate of the new one, and
// what was begun under an old certificate had time to end, the old one is trusted no more. A machine
// that is away is waited for, unless an administrator goes on without it.
package rotation
