package runtimetest

import "testing"

// Run checks what package runtime promises of every engine.
func Run(t *testing.T, h *Harness) {
	for name, test := range map[string]func(*lab){
		"images are pulled once and forgotten":          images,
		"concurrent pulls share one fetch":              sharedPull,
		"what runs is entrypoint and command":           command,
		"the environment is the image's and the spec's": environment,
		"the working directory":                         workDir,
		"what cannot run leaves nothing":                refusals,
		"an ID is taken once":                           conflict,
		"states and exit codes":                         states,
		"calls that the state forbids":                  wrongState,
		"signals":                                       signals,
		"remove at any moment":                          remove,
		"list is sorted and has the given labels only":  list,
		"a restarted agent finds everything":            reopen,
		"exits are told":                                events,
		"a daemon that was away":                        away,
		"a lost helper":                                 lost,
		"out of memory":                                 outOfMemory,
		"logs are whole and keep the streams apart":     logs,
		"a log goes on where it was":                    logContinued,
		"exec":                                          execs,
		"exec is given its input":                       execInput,
		"exec has a terminal":                           execTerminal,
		"exec ends with its caller":                     execEnds,
		"exec that cannot be":                           execRefused,
		"attach":                                        attach,
		"attach again":                                  attachAgain,
		"output waits for an attachment":                outputWaits,
		"attach to a terminal":                          attachTerminal,
		"output that nobody was attached to is logged":  unattached,
		"stats": stats,
	} {
		t.Run(name, func(t *testing.T) {
			own := *h
			test(&lab{t, &own})
		})
	}
}
