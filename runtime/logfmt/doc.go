// Package logfmt is the format of the files that a container's output is kept in: a writer for
// cmd/sliplog and a reader for the agent. It imports only the standard library.
//
// # Format
//
// A log is a directory of append-only segments. Their names are 16 decimal digits and ".log";
// the number is the sequence number of the segment's first entry, so that names sort by age
// and a reader knows how much is missing between two. All segments together stay within a
// bound: the oldest is removed when a new one is begun. A segment is a series of records:
//
//	<unix nanoseconds> <stream> <flag> <length> <text>\n
//	1795467600000000000 o - 5 hello
//
// stream is "o" (stdout), "e" (stderr), "d" or "x". flag is "-" for a whole line and "p" for a
// part of a line that the next record of the same stream continues. length counts the bytes of
// text, at most TextMax; the text is raw: any byte, without the line's newline. The newline at
// the end makes the file readable to a person and lets a reader find its way after damage. The
// last line of an output that does not end with a newline is kept, with flag "p".
//
// A "d" record says that entries were dropped here because the disk refused them; its text is
// how many, and as many sequence numbers are skipped. An "x" record says that the output ended
// here. Every other record is an entry and takes the next sequence number.
//
// # Invariants
//
// A record is never changed and never crosses a segment. A record that is torn at the end of a
// segment, because the writer was killed, is not an entry; the next writer begins a new
// segment. There is one writer at a time.
package logfmt
