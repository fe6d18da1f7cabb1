// SPDX-License-Identifier: Apache-2.0

// Command stager carries a step's files between an object store and the scratch volume of its pod.
//
// "stager in" is an init container: it brings inputs, step code and checkpoint, checks them, and ends. "stager out" is a native sidecar: it
// waits for SIGTERM, which Kubernetes sends when the program has ended, uploads what the program wrote, and last of all a record of it. It does
// not know how the program ended, and decides nothing: whoever reads the exit code from the API server commits, or does not. "stager ready" is
// its hook after the start, which returns when it heeds signals: the first process of a container that has no handler yet does not get them.
//
// What to carry is in the variable MLOPS_STAGER_JOB, as the package's operators write it; credentials are in the environment, under the names
// that each cloud's own tools use. What was carried, or what went wrong, is in the container's termination message, one JSON object.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// Exit codes: what another try may cure, and what it may not.
const (
	exitInfrastructure = 1
	exitUsage          = 2
	exitArtifact       = 3
)

// terminationMessage is where Kubernetes reads a container's last words, unless MLOPS_TERMINATION_MESSAGE names another file.
const terminationMessage = "/dev/termination-log"

// badArtifact is an input that is gone, or not what was committed: the step that made it has to run again.
type badArtifact struct{ message string }

func (e *badArtifact) Error() string { return e.message }

func artifactf(format string, values ...any) error {
	return &badArtifact{fmt.Sprintf(format, values...)}
}

func main() {
	mode := ""
	if len(os.Args) == 2 {
		mode = os.Args[1]
	}
	switch mode {
	case "in", "out":
		ended := make(chan os.Signal, 1)
		signal.Notify(ended, syscall.SIGTERM, syscall.SIGINT)
		os.Exit(run(mode, ended))
	case "ready":
		os.Exit(awaitReady(os.Getenv("MLOPS_STAGER_JOB")))
	}
	fmt.Fprintln(os.Stderr, "usage: stager in|out|ready, with MLOPS_STAGER_JOB in the environment")
	os.Exit(exitUsage)
}

// Carried is what was brought, or put into the store: artifacts, not the step's code or its checkpoint.
type Carried struct {
	Files   int     `json:"files"`
	Bytes   int64   `json:"bytes"`
	Seconds float64 `json:"seconds"`
}

// add counts the files of an artifact, and returns its bytes.
func (c *Carried) add(files []Sealed) int64 {
	var size int64
	for _, file := range files {
		size += file.Size
	}
	c.Files, c.Bytes = c.Files+len(files), c.Bytes+size
	return size
}

func run(mode string, ended <-chan os.Signal) int {
	began, carried := time.Now(), Carried{}
	job, err := readJob(os.Getenv("MLOPS_STAGER_JOB"))
	if err == nil {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		if mode == "in" {
			// Nothing is worth finishing if the pod goes while it is still being filled.
			go func() { <-ended; cancel() }()
			carried, err = stageIn(ctx, job)
		} else {
			// Where this one was restarted, the program may have put something else in a folder's place: that is told with its outputs.
			if err = makeFolders(job); err == nil || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EEXIST) {
				err = sayReady(os.Getenv("MLOPS_STAGER_JOB"))
			}
			if err == nil {
				<-ended
				began = time.Now()
				carried, err = stageOut(ctx, job)
			}
		}
	}
	if err == nil {
		carried.Seconds = time.Since(began).Round(time.Millisecond).Seconds()
		message, _ := json.Marshal(carried)
		fmt.Println(string(message))
		say(message)
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
	say(message)
	return code
}

// say leaves a message in the pod's status. Kubernetes keeps at most 4096 bytes; one that cannot be written is in the log.
func say(message []byte) {
	file := os.Getenv("MLOPS_TERMINATION_MESSAGE")
	if file == "" {
		file = terminationMessage
	}
	_ = os.WriteFile(file, message, 0o644)
}
