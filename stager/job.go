// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"path"
	"strings"
)

// version of jobs that this program can do.
const version = 2

// Job says what to carry. Keys are whole keys of the bucket; paths are relative to Root.
type Job struct {
	Version    int         `json:"version"`
	Root       string      `json:"root"`
	In         []Input     `json:"in"`
	Files      []File      `json:"files"`
	Source     *File       `json:"source"`
	Checkpoint *Checkpoint `json:"checkpoint"`
	Out        Out         `json:"out"`
}

// Input is an artifact. Digest is empty where its content is not to be read again.
type Input struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Path   string `json:"path"`
	URI    string `json:"uri"`
	Digest string `json:"digest"`
	Size   *int64 `json:"size"`
}

// File is one object that becomes one file, or is unpacked.
type File struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	Path   string `json:"path"`
	Digest string `json:"digest"`
}

// Checkpoint is a folder that is brought, and put back.
type Checkpoint struct {
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
}

// Out is where outputs go: Key/outputs/<name>, and the record of them to Key/Record. Record, Seal and Stopped are names beside it.
type Out struct {
	Bucket  string            `json:"bucket"`
	Key     string            `json:"key"`
	Record  string            `json:"record"`
	Seal    string            `json:"seal"`    // as long as there is this one, the attempt counts
	Stopped string            `json:"stopped"` // and as long as there is not this one
	Outputs map[string]string `json:"outputs"` // by name, the file that the output names, if it names one
}

func readJob(text string) (*Job, error) {
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	job := &Job{}
	if err := decoder.Decode(job); err != nil {
		return nil, fmt.Errorf("MLOPS_STAGER_JOB cannot be read: %w; the stager image and the package must be of the same release", err)
	}
	if job.Version != version {
		return nil, fmt.Errorf("MLOPS_STAGER_JOB has version %d, and this stager knows version %d; the stager image and the package must be of the same release", job.Version, version)
	}
	if !path.IsAbs(job.Root) {
		return nil, fmt.Errorf("MLOPS_STAGER_JOB: root %q is no absolute path", job.Root)
	}
	paths := []string{}
	for _, input := range job.In {
		paths = append(paths, input.Path)
	}
	for _, file := range job.Files {
		paths = append(paths, file.Path)
	}
	for name, file := range job.Out.Outputs {
		paths = append(paths, path.Join(name, file))
		if strings.Contains(name, "/") {
			return nil, fmt.Errorf("MLOPS_STAGER_JOB: output %q is no name", name)
		}
	}
	for _, relative := range paths {
		if !isInside(relative) {
			return nil, fmt.Errorf("MLOPS_STAGER_JOB: path %q leads out of %s", relative, job.Root)
		}
	}
	return job, nil
}

// isInside tells whether a relative path stays below the folder that it is relative to.
func isInside(relative string) bool {
	return relative != "" && !path.IsAbs(relative) && path.Clean(relative) == relative && relative != ".." && relative != "." && !strings.HasPrefix(relative, "../")
}
