// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"sort"
)

// Sealed is a file of an artifact: its path within it (empty if the artifact is one file), its size in bytes, its sha256 in hexadecimal.
type Sealed struct {
	Path   string `json:"path"`
	Size   int64  `json:"size"`
	Sha256 string `json:"sha256"`
}

// digestOf is the digest of an artifact as airflow_mlops/artifacts/digests.py defines it.
func digestOf(files []Sealed, isTree bool) string {
	if !isTree {
		return "sha256:" + files[0].Sha256
	}
	sort.Slice(files, func(i, j int) bool { return files[i].Path < files[j].Path })
	listing := sha256.New()
	for _, file := range files {
		fmt.Fprintf(listing, "%s %d %s\n", file.Sha256, file.Size, file.Path)
	}
	return "sha256-tree:" + hex.EncodeToString(listing.Sum(nil))
}

func hashFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	digest := sha256.New()
	if _, err := io.CopyBuffer(digest, file, make([]byte, 1<<20)); err != nil {
		return "", err
	}
	return hex.EncodeToString(digest.Sum(nil)), nil
}
