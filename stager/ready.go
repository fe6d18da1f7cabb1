// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"time"
)

// patience is how long the hook waits for the sidecar.
const patience = 60 * time.Second

// readyAddress is a socket that needs no file, in the network of the pod. The job is in its name, since a pod may be in the network of its host.
func readyAddress(job string) string {
	digest := sha256.Sum256([]byte(job))
	return "@mlops-stager-" + hex.EncodeToString(digest[:8])
}

// sayReady lets the hook know, for as long as the process lives.
func sayReady(job string) error {
	listener, err := net.Listen("unix", readyAddress(job))
	if err != nil {
		return fmt.Errorf("the stager cannot tell that it is ready: %w", err)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.Close()
		}
	}()
	return nil
}

// awaitReady waits until the sidecar of the same container heeds signals.
func awaitReady(job string) int {
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var connection net.Conn
		if connection, err = net.Dial("unix", readyAddress(job)); err == nil {
			_ = connection.Close()
			return 0
		}
	}
	fmt.Fprintf(os.Stderr, "the stager is not ready after %s: %v\n", patience, err)
	return exitInfrastructure
}
