// Package mutants checks the checks: it puts realistic bugs into the product, one at a time, and
// demands that the simulator or a property finds each. The bugs are replacements in the sources
// that a build sees through an overlay; the tree is never touched.
package mutants
