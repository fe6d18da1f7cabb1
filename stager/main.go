// SPDX-License-Identifier: Apache-2.0

// Command stager carries a step's files between an object store and the scratch volume of its pod.
//
// "stager in" is an init container: it brings inputs, step code and checkpoint, checks them, and ends. "stager out" is a native sidecar: it
// waits for SIGTERM, which Kubernetes sends when the program has ended, uploads what the program wrote, and last of all a record of it. It does
// not know how the program ended, and decides nothing: whoever reads the exit code from the API server commits, or does not.
//
// What to carry is in the variable MLOPS_STAGER_JOB, as the package's operators write it; credentials are in the environment, under the names
// that each cloud's own tools use. What went wrong is in the container's termination message, one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Exit codes: what another try may cure, and what it may not.
const (
	exitInfrastructure = 1
	exitUsage          = 2
	exitArtifact       = 3
)

const terminationMessage = "/dev/termination-log"

// badArtifact is an input that is gone, or not what was committed: the step that made it has to run again.
type badArtifact struct{ message string }

func (e *badArtifact) Error() string { return e.message }

func artifactf(format string, values ...any) error {
	return &badArtifact{fmt.Sprintf(format, values...)}
}

func main() {
	if len(os.Args) != 2 || (os.Args[1] != "in" && os.Args[1] != "out") {
		fmt.Fprintln(os.Stderr, "usage: stager in|out, with MLOPS_STAGER_JOB in the environment")
		os.Exit(exitUsage)
	}
	// The first thing: a program may end before the sidecar has read its job.
	ended := make(chan os.Signal, 1)
	signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
	os.Exit(run(os.Args[1], ended))
}

func run(mode string, ended <-chan os.Signal) int {
	job, err := readJob(os.Getenv("MLOPS_STAGER_JOB"))
	if err == nil {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if mode == "in" {
			// Nothing is worth finishing if the pod goes while it is still being filled.
			go func() { <-ended; cancel() }()
			err = stageIn(ctx, job)
		} else {
			<-ended
			err = stageOut(ctx, job)
		}
	}
	if err == nil {
		return 0
	}
	code, class := exitInfrastructure, "infrastructure"
	var bad *badArtifact
	if errors.As(err, &bad) {
		code, class = exitArtifact, "artifact"
	}
	text := []rune(err.Error())
	if len(text) > 1500 {
		text = append(text[:1500], '…')
	}
	message, _ := json.Marshal(map[string]string{"class": class, "message": string(text)})
	fmt.Fprintln(os.Stderr, string(message))
	// Kubernetes keeps at most 4096 bytes. A message that cannot be written is in the log.
	_ = os.WriteFile(terminationMessage, message, 0o644)
	return code
}
