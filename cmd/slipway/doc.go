// Command slipway is what users of a rack type.
//
// Each verb has one file. A verb reads its arguments, calls api/client, and prints: tables for
// people, documents with --json. Only run.go knows exit codes, only shell.go knows where the
// rack and the app come from, only print.go knows how things look.
//
// Standard output carries answers, standard error carries errors and, with --json, progress.
// Nothing asks a question unless it talks to a terminal.
package main
