package manifest

import (
	"fmt"
	"maps"
)

// service is the grammar of one process type.
func service() rule {
	known := keys{}
	for _, group := range []keys{
		runKeys(), networkKeys(), probeKeys(), lifeKeys(), placeKeys(), storageKeys(), clusterKeys(),
	} {
		maps.Copy(known, group)
	}
	return tableOf(known)
}

// runKeys say what runs.
func runKeys() keys {
	return keys{
		"build": reasoned("a path below the source", below).or(tableOf(keys{
			"path":     reasoned("a path below the source", below),
			"manifest": reasoned("a path below the build's path", below),
			"args":     listOf(text()),
			"target":   matching("the name of a build stage", stage).ours(),
		})).called("service build"),
		"image":       reasoned("an image reference", imageRef),
		"command":     commandLine().called("service command"),
		"entrypoint":  commandLine().ours().idle(),
		"test":        text().encrypted().idle(),
		"environment": environment("service environment"),
		"init":        flag(),
		"privileged":  flag(),
		"resources":   listOf(text()),
		"labels":      namesOf(text()).v3().idle(),
		"securityContext": tableOf(keys{
			"runAsNonRoot":             flag(),
			"runAsUser":                whole(0, 1<<31-1),
			"runAsGroup":               whole(0, 1<<31-1),
			"readOnlyRootFilesystem":   flag(),
			"allowPrivilegeEscalation": flag().idle(),
			"capabilities": tableOf(keys{
				"add":  listOf(matching("a capability such as NET_ADMIN", capability)),
				"drop": listOf(matching("a capability such as NET_ADMIN", capability)),
			}),
			"seccompProfile": oneOf("RuntimeDefault", "Unconfined").idle(),
		}).v3(),
		"imagePullSecrets": listOf(tableOf(keys{
			"registry":    text(),
			"username":    text(),
			"password":    text().masked(),
			"passwordEnv": text(),
		})).v3().idle(),
	}
}

// networkKeys say how a service is reached.
func networkKeys() keys {
	portNumber := matching("a port from 1 to 65535", portNumber)
	portNumber.text = false
	return keys{
		"port": rule{what: "a port", scalar: anyScalar}.or(tableOf(keys{
			"port":   portNumber,
			"scheme": oneOf(schemes...),
		})).called("service port"),
		"ports": listOf(rule{what: "a port", scalar: anyScalar}.or(tableOf(keys{
			"port":     portNumber,
			"protocol": matching("tcp or udp", protocol),
		}))).v3(),
		"hostPorts": listOf(rule{what: "a port", scalar: anyScalar}.or(tableOf(keys{
			"port":     portNumber,
			"host":     portNumber,
			"protocol": matching("tcp or udp", protocol),
		}))).ours(),
		"domain":              text().or(listOf(text())).called("service domain"),
		"internal":            flag(),
		"internalAndExternal": flag().v2(),
		"internalRouter":      flag().v3().idle(),
		"sticky":              flag(),
		"timeout":             seconds(1, dayMax).v3(),
		"tls":                 tableOf(keys{"redirect": flag()}).v3(),
		"whitelist":           text().or(listOf(text())).v3(),
		"links":               listOf(text()).v2().idle(),
		"certificate": tableOf(keys{
			"id":       text(),
			"duration": text(),
		}).v3().idle(),
		"nlb": listOf(tableOf(keys{
			"port":               rule{what: "a port", scalar: anyScalar},
			"containerPort":      rule{what: "a port", scalar: anyScalar},
			"protocol":           text(),
			"scheme":             text(),
			"certificate":        text(),
			"cross_zone":         flag(),
			"allow_cidr":         listOf(text()),
			"preserve_client_ip": flag(),
		})).v2().idle(),
		"annotations":        annotations().v3().idle(),
		"ingressAnnotations": annotations().v3().idle(),
		"dnsConfig":          tableOf(keys{"ndots": whole(0, 15)}).v3().idle(),
	}
}

// probeKeys say how a process proves that it works.
func probeKeys() keys {
	timing := func(more keys) rule {
		maps.Copy(more, keys{
			"grace":            seconds(0, dayMax),
			"interval":         seconds(1, 3600),
			"timeout":          seconds(1, 3600),
			"successThreshold": whole(1, 100),
			"failureThreshold": whole(1, 1000),
		})
		return tableOf(more)
	}
	path := reasoned("a path such as /health", urlPath)
	return keys{
		"health": path.or(tableOf(keys{
			"path":     path,
			"grace":    seconds(0, dayMax),
			"interval": seconds(1, 3600),
			"timeout":  seconds(1, 3600),
			"disable":  flag().v3(),
			"port":     probePort().v3(),
			"tcp":      flag().ours(),
		})).called("service health"),
		"liveness": timing(keys{
			"path": path,
			"port": probePort(),
		}).v3(),
		"startupProbe": timing(keys{
			"path":          path,
			"port":          probePort().ours(),
			"tcpSocketPort": whole(1, 65535),
		}).v3(),
		"grpcHealthEnabled": flag().v3().idle(),
	}
}

// probePort is a port, with a scheme that does not act: a probe speaks as the service's port
// does.
func probePort() rule {
	port := matching("a port from 1 to 65535, or scheme:number", schemePort)
	port.text = false
	return port.or(tableOf(keys{
		"port":   whole(1, 65535),
		"scheme": oneOf(schemes...).idle(),
	}))
}

// lifeKeys say how copies come and go.
func lifeKeys() keys {
	return keys{
		"drain":       seconds(0, dayMax),
		"termination": tableOf(keys{"grace": seconds(0, dayMax)}),
		"deployment": tableOf(keys{
			"minimum":           rule{what: "a percentage", scalar: anyWhole},
			"maximum":           rule{what: "a percentage", scalar: anyWhole},
			"progressDeadline":  seconds(1, dayMax).v3().idle(),
			"crashRestartLimit": whole(1, 1000).v3().idle(),
		}),
		"singleton": flag(),
		"agent": flag().or(tableOf(keys{
			"enabled": flag(),
			"ports":   listOf(rule{what: "a port", scalar: anyScalar}).v2(),
		})),
		"scale": counts().or(tableOf(scaleKeys())).called("service scale"),
		"lifecycle": tableOf(keys{
			"preStop":   text(),
			"postStart": text(),
		}).v3().idle(),
	}
}

// placeKeys say where copies run.
func placeKeys() keys {
	return keys{
		"pool":        matching("the name of a pool", poolName).ours(),
		"priority":    whole(1, 100).ours(),
		"constraints": predicates().ours(),
		"devices": listOf(tableOf(keys{
			"kind":        matching("a kind of device such as gpu", stage),
			"vendor":      matching("a vendor such as nvidia", stage),
			"model":       text(),
			"count":       whole(1, deviceMax),
			"constraints": predicates(),
		})).ours(),
		"affinities": listOf(tableOf(keys{
			"attribute": text(),
			"operator":  text(),
			"value":     text(),
			"weight":    whole(-100, 100),
		})).ours(),
		"spread": text().or(listOf(text().or(tableOf(keys{
			"attribute": text(),
			"weight":    whole(1, 100),
			"targets":   namesOf(whole(0, 100)),
		})))).ours(),
		"nodeSelectorLabels": namesOf(text()).v3(),
		"nodeAffinityLabels": listOf(tableOf(keys{
			"label":  text(),
			"value":  text(),
			"weight": whole(1, 100),
		})).v3(),
	}
}

// predicates are conditions on attributes.
func predicates() rule {
	return listOf(text().or(tableOf(keys{
		"attribute": text(),
		"operator":  text(),
		"value":     text(),
	})))
}

// storageKeys say what a process finds on its disk.
func storageKeys() keys {
	size := matching("a size such as 64Mi", sizeText)
	accessMode := oneOf("ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany")
	return keys{
		"volumes": listOf(text()),
		"volumeOptions": listOf(tableOf(keys{
			"emptyDir": tableOf(keys{
				"id":        text(),
				"mountPath": text(),
				"medium":    oneOf("", "Memory"),
				"sizeLimit": size,
			}),
			"awsEfs": tableOf(keys{
				"id": text(), "mountPath": text(), "accessMode": accessMode, "storageClass": text(), "volumeHandle": text(),
			}).idle(),
			"azureFiles": tableOf(keys{
				"id": text(), "mountPath": text(), "accessMode": accessMode, "shareSize": matching("a size of at least 100Gi", shareSize), "storageClass": text(), "volumeHandle": text(),
			}).idle(),
			"persistentVolumeClaim": anything().idle(),
		})).v3(),
		"configMounts": listOf(configMount()).v3().idle(),
		"stateful":     flag().v3().idle(),
	}
}

func configMount() rule {
	return tableOf(keys{"id": text(), "dir": text(), "filename": text()})
}

// clusterKeys belong to the platforms below Convox.
func clusterKeys() keys {
	return keys{
		"policies": listOf(text()).v2().idle(),
		"tags":     namesOf(text()).v2().idle(),
		"initContainer": tableOf(keys{
			"image":         reasoned("an image reference", imageRef),
			"command":       commandLine(),
			"volumeOptions": listOf(anything()),
			"configMounts":  listOf(configMount()),
		}).v3().idle(),
		"accessControl": tableOf(keys{
			"awsPodIdentity": tableOf(keys{"policyArns": listOf(text())}),
		}).v3().idle(),
		"disableHostUsers":    flag().v3().idle(),
		"podManagementPolicy": oneOf("OrderedReady", "Parallel").v3().idle(),
	}
}

// scaleKeys say how many copies there are and what each asks for.
func scaleKeys() keys {
	updateMode := oneOf("Off", "Initial", "Recreate")
	updateMode.text = false // Convox knows that YAML 1.1 makes false of Off
	count, memory := whole(0, countMax), amount(" of MB", 1, memoryMax)
	cpu := amount(" of thousandths of a core", 1, cpuMax)
	percent := whole(1, 100)
	mode := func(threshold rule) rule {
		return tableOf(keys{
			"threshold": threshold, "metricName": text(), "query": text(),
			"prometheusUrl": matching("a URL such as http://prometheus:9090", httpURL),
		})
	}
	share := matching("a number above 0, at most 100", adjustment)
	share.text = false
	threshold := share.or(mode(share))
	return keys{
		"count":  counts().or(tableOf(keys{"min": count, "max": count})),
		"min":    count.v3(),
		"max":    count.v3(),
		"cpu":    cpu,
		"memory": memory,
		"gpu": whole(0, gpuMax).or(tableOf(keys{
			"count":  whole(0, gpuMax),
			"vendor": oneOf("nvidia", "amd"),
		})).v3(),
		"limit":    tableOf(keys{"cpu": cpu, "memory": memory}).v3(),
		"cooldown": seconds(0, dayMax).or(tableOf(keys{"up": seconds(0, dayMax), "down": seconds(0, dayMax)})).v2().idle(),
		"targets": tableOf(keys{
			"cpu":      percent,
			"memory":   percent,
			"requests": whole(1, 1_000_000_000),
			"custom": namesOf(tableOf(keys{
				"aggregate":  text(),
				"value":      matching("a number", number),
				"dimensions": namesOf(text()),
			})),
			"external": listOf(tableOf(keys{
				"name":         text(),
				"matchLabels":  namesOf(text()),
				"averageValue": matching("a number", number),
				"value":        matching("a number", number),
			})).v3(),
		}).idle(),
		"autoscale": tableOf(keys{
			"cpu":             threshold,
			"memory":          threshold,
			"gpuUtilization":  threshold,
			"queueDepth":      mode(matching("a number above 0", positive)),
			"custom":          listOf(anything()),
			"cooldownPeriod":  seconds(0, dayMax),
			"pollingInterval": seconds(1, dayMax),
		}).v3().idle(),
		"keda": anything().v3().idle(),
		"vpa": tableOf(keys{
			"updateMode": updateMode,
			"minCpu":     text(), "maxCpu": text(), "minMem": text(), "maxMem": text(),
			"cpuOnly": flag(), "memOnly": flag(), "updateRequestOnly": flag(),
		}).v3().idle(),
	}
}

func counts() rule {
	r := matching(fmt.Sprintf("a count up to %d such as 3, or a range such as 1-5", countMax), countRange)
	r.text = false
	return r
}
