package runtimetest

import "testing"

// Run checks what package runtime promises of every engine.
func Run(t *testing.T, h *Harness) {
	for name, test := range map[string]func(*lab){
		"images are pulled once and forgotten":                  images,
		"concurrent pulls share one fetch":                      sharedPull,
		"what runs is entrypoint and command":                   command,
		"the environment is the image's and the spec's":         environment,
		"the working directory":                                 workDir,
		"what cannot run leaves nothing":                        refusals,
		"an ID is taken once":                                   conflict,
		"states and exit codes":                                 states,
		"calls that the state forbids":                          wrongState,
		"signals":                                               signals,
		"remove at any moment":                                  remove,
		"list is sorted and has the given labels only":          list,
		"a restarted agent finds everything":                    reopen,
		"exits are told":                                        events,
		"a daemon that was away":                                away,
		"a lost helper":                                         lost,
		"out of memory":                                         outOfMemory,
		"logs are whole and keep the streams apart":             logs,
		"a log goes on where it was":                            logContinued,
		"exec":                                                  execs,
		"exec is given its input":                               execInput,
		"exec has a terminal":                                   execTerminal,
		"exec ends with its caller":                             execEnds,
		"exec that cannot be":                                   execRefused,
		"attach":                                                attach,
		"attach again":                                          attachAgain,
		"output waits for an attachment":                        outputWaits,
		"attach to a terminal":                                  attachTerminal,
		"output that nobody was attached to is logged":          unattached,
		"output that nobody was attached to survives the agent": unattachedAcrossAgents,
		"stats":                            stats,
		"devices that containers can have": givenDevices,
	} {
		h.run(t, name, test)
	}
}

// Confine checks what only an engine with a kernel can keep.
func Confine(t *testing.T, h *Harness) {
	for name, test := range map[string]func(*lab){
		"users and groups":                           users,
		"who may not be root":                        nonRoot,
		"capabilities and confinement":               privileges,
		"mounts":                                     mounts,
		"devices":                                    devices,
		"a group without a user":                     groupAlone,
		"a file system that is read-only":            readOnly,
		"limits of processor and memory":             limits,
		"limits of processes and files":              counts,
		"memory of one process, not of the main one": otherOOM,
		"who goes first when a node has no memory":   oomScore,
		"the network's files":                        networkFiles,
		"namespaces of the network":                  networkSpaces,
		"an init process":                            initProcess,
		"commands that cannot be run":                unrunnable,
		"exec delivers all to a slow reader":         execSlow,
		"exec leaves children behind":                execChildren,
		"hostile users of an image":                  hostileUsers,
		"hostile working directories":                hostileDirs,
		"hostile links of an image":                  hostileLinks,
		"hostile volumes of an image":                hostileVolumes,
		"hostile files of users":                     hostileFiles,
	} {
		h.run(t, name, test)
	}
}

// run runs one test with a copy of the harness.
func (h *Harness) run(t *testing.T, name string, test func(*lab)) {
	t.Run(name, func(t *testing.T) {
		own := *h
		test(&lab{t, &own})
	})
}
