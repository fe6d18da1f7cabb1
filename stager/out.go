// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"sort"
	"strings"
	"syscall"
	"unicode/utf8"

	"gocloud.dev/blob"
	"golang.org/x/sync/errgroup"
)

// The same limits as airflow_mlops/artifacts/scan.py has.
const (
	maxFiles = 100_000
	maxDepth = 64
	maxName  = 1024
	// uploads is how many files are under way at a time; each of them in up to partsOfOne parts.
	uploads    = 12
	partsOfOne = 4
	// large is how many files of more than one part are under way at a time, so that the parts in memory are at most some 200 MB.
	large = 3
)

// Record says what was uploaded. It is put last.
type Record struct {
	Version int               `json:"version"`
	Outputs map[string]Output `json:"outputs"`
}

// Output is one of: files that were uploaded, nothing that was found (and what lay beside it), or why it is not taken.
type Output struct {
	Tree    bool     `json:"tree"`
	Files   []Sealed `json:"files"`
	Missing []string `json:"missing"`
	Refused string   `json:"refused,omitempty"`
}

// refused is content that no artifact may hold.
type refused struct{ message string }

func (e *refused) Error() string { return e.message }

func refusedf(format string, values ...any) error { return &refused{fmt.Sprintf(format, values...)} }

func stageOut(ctx context.Context, job *Job) (Carried, error) {
	carried := Carried{}
	opened := &buckets{}
	bucket, err := opened.get(ctx, job.Out.Bucket)
	if err != nil {
		return carried, err
	}
	// The checkpoint first: the next try needs it most where there is no time for more.
	if job.Checkpoint != nil {
		err := putCheckpoint(ctx, opened, job)
		var no *refused
		if errors.As(err, &no) || errors.Is(err, fs.ErrPermission) {
			// The outputs are there all the same.
			fmt.Fprintf(os.Stderr, "the checkpoint is not kept: %v\n", err)
		} else if err != nil {
			return carried, fmt.Errorf("the checkpoint cannot be put into the store: %w", err)
		}
	}
	if givenUp(ctx, bucket, job.Out) {
		return carried, nil
	}
	record := Record{Version: 1, Outputs: map[string]Output{}}
	folder := filepath.Join(job.Root, "outputs")
	for name, file := range job.Out.Outputs {
		output, err := putOutput(ctx, bucket, job.Out.Key, folder, path.Join(name, file))
		if err != nil {
			return carried, fmt.Errorf("output '%s' cannot be put into the store: %w", name, err)
		}
		carried.add(output.Files)
		record.Outputs[name] = output
	}
	content, err := json.Marshal(record)
	if err != nil {
		return carried, err
	}
	put := func() error { return bucket.WriteAll(ctx, path.Join(job.Out.Key, job.Out.Record), content, nil) }
	if err := again(ctx, put); err != nil {
		return carried, fmt.Errorf("the record of the outputs cannot be put into the store: %w", err)
	}
	return carried, nil
}

// givenUp tells whether nobody waits for the outputs any more: the attempt was stopped, or removed. What would be uploaded now, nobody would
// remove. Where the store does not say, they are uploaded.
func givenUp(ctx context.Context, bucket *blob.Bucket, out Out) bool {
	if sealed, err := bucket.Exists(ctx, path.Join(out.Key, out.Seal)); err == nil && !sealed {
		return true
	}
	stopped, err := bucket.Exists(ctx, path.Join(out.Key, out.Stopped))
	return err == nil && stopped
}

func putCheckpoint(ctx context.Context, opened *buckets, job *Job) error {
	bucket, err := opened.get(ctx, job.Checkpoint.Bucket)
	if err != nil {
		return err
	}
	folder := filepath.Join(job.Root, "checkpoint")
	files, _, err := scan(folder)
	if err != nil {
		return err
	}
	_, err = putFiles(ctx, bucket, folder, "", job.Checkpoint.Key, files)
	return err
}

func putOutput(ctx context.Context, bucket *blob.Bucket, key, folder, relative string) (Output, error) {
	target, err := plainPath(folder, relative)
	if errors.Is(err, fs.ErrNotExist) {
		return Output{Missing: besides(folder, relative)}, nil
	}
	var files []Sealed
	isTree := false
	if err == nil {
		files, isTree, err = scan(target)
	}
	var no *refused
	if errors.As(err, &no) {
		return Output{Refused: no.message}, nil
	}
	if errors.Is(err, fs.ErrPermission) {
		return Output{Refused: fmt.Sprintf("%v; let the program write its outputs so that its group may read them (umask 022)", err)}, nil
	}
	if err != nil {
		return Output{}, err
	}
	sealed, err := putFiles(ctx, bucket, folder, relative, path.Join(key, "outputs", relative), files)
	if errors.Is(err, fs.ErrPermission) {
		return Output{Refused: fmt.Sprintf("%v; let the program write its outputs so that its group may read them (umask 022)", err)}, nil
	}
	return Output{Tree: isTree, Files: sealed}, err
}

// plainPath is a path below a folder no part of which is a link.
func plainPath(folder, relative string) (string, error) {
	current := folder
	for _, name := range append([]string{""}, strings.Split(relative, "/")...) {
		current = filepath.Join(current, name)
		status, err := os.Lstat(current)
		if errors.Is(err, syscall.ENOTDIR) {
			return "", fs.ErrNotExist
		}
		if err != nil {
			return "", err
		}
		if status.Mode()&fs.ModeSymlink != 0 {
			return "", refusedf("%s is a symbolic link; write the file or folder itself", current)
		}
	}
	return current, nil
}

// besides lists what lies where an output should be: in the folder of its own, or among all outputs.
func besides(folder, relative string) []string {
	for _, parent := range []string{path.Dir(relative), "."} {
		entries, err := os.ReadDir(filepath.Join(folder, parent))
		if err != nil {
			continue
		}
		names := []string{}
		for _, entry := range entries {
			name := path.Join(parent, entry.Name())
			if entry.IsDir() {
				name += "/"
			}
			if names = append(names, strings.ToValidUTF8(name, "?")); len(names) == 100 {
				break
			}
		}
		if len(names) > 0 {
			return names
		}
	}
	return []string{}
}

// scan lists the files of a folder, or the one file, with their sizes; the digests are for others to find out.
func scan(top string) ([]Sealed, bool, error) {
	status, err := os.Lstat(top)
	if err != nil {
		return nil, false, err
	}
	if !status.IsDir() {
		if err := check(top, status); err != nil {
			return nil, false, err
		}
		return []Sealed{{Size: status.Size()}}, false, nil
	}
	found := []Sealed{}
	folders := 0
	err = filepath.WalkDir(top, func(place string, entry fs.DirEntry, err error) error {
		if err != nil || place == top {
			return err
		}
		name := strings.TrimPrefix(place, top+"/")
		if err := checkName(name, top); err != nil {
			return err
		}
		if entry.IsDir() {
			if folders++; folders > maxFiles || strings.Count(name, "/") >= maxDepth {
				return refusedf("%s holds more than %d folders, or nests them deeper than %d levels; pack them into fewer files", top, maxFiles, maxDepth)
			}
			return nil
		}
		status, err := entry.Info()
		if err != nil {
			return err
		}
		if err := check(place, status); err != nil {
			return err
		}
		if found = append(found, Sealed{Path: name, Size: status.Size()}); len(found) > maxFiles {
			return refusedf("%s holds more than %d files; pack them into fewer files, such as a tar archive or Parquet", top, maxFiles)
		}
		return nil
	})
	sort.Slice(found, func(i, j int) bool { return found[i].Path < found[j].Path })
	return found, true, err
}

func check(place string, status fs.FileInfo) error {
	if !status.Mode().IsRegular() {
		return refusedf("%s is no regular file but %s; write one", place, kindOf(status.Mode()))
	}
	if details, ok := status.Sys().(*syscall.Stat_t); ok && details.Nlink > 1 {
		return refusedf("%s has %d names (hard links), and whoever has another one could change it; write a copy of it", place, details.Nlink)
	}
	return nil
}

func kindOf(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "a named pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "something else"
}

func checkName(name, top string) error {
	if !utf8.ValidString(name) {
		return refusedf("%s holds a file whose name is not UTF-8: %q; give it another name", top, name)
	}
	if len(name) > maxName {
		return refusedf("%s holds a path of %d bytes: %q…; at most %d are allowed", top, len(name), name[:100], maxName)
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r < 0x20 || r == 0x7f }) {
		return refusedf("%s holds a file with control characters in its name: %q; give it another name", top, name)
	}
	return nil
}

// putFiles uploads the files of one artifact, each of them read once: what is hashed is what is sent.
// Base is a folder of the stager's own; whatever was put in another folder's place since it was looked at, nothing outside of base is opened.
func putFiles(ctx context.Context, bucket *blob.Bucket, base, relative, key string, files []Sealed) ([]Sealed, error) {
	root, err := os.OpenRoot(base)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	sealed := make([]Sealed, len(files))
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(uploads)
	slots := make(chan struct{}, large)
	for i, file := range files {
		work.Go(func() error {
			if file.Size > part {
				slots <- struct{}{}
				defer func() { <-slots }()
			}
			return again(ctx, func() (err error) {
				sealed[i], err = putFile(ctx, bucket, root, path.Join(relative, file.Path), path.Join(key, file.Path), file)
				return err
			})
		})
	}
	return sealed, work.Wait()
}

func putFile(ctx context.Context, bucket *blob.Bucket, root *os.Root, relative, key string, found Sealed) (Sealed, error) {
	file, err := root.OpenFile(relative, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return Sealed{}, err
	}
	defer file.Close()
	// The context is what cancels a half-written object.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	writer, err := bucket.NewWriter(ctx, key, &blob.WriterOptions{
		ContentType: "application/octet-stream",
		// S3 takes 10,000 parts of an object.
		BufferSize:     int(max(min(part, max(found.Size, 1)), found.Size/9000)),
		MaxConcurrency: partsOfOne,
	})
	if err != nil {
		return Sealed{}, err
	}
	digest := sha256.New()
	size, err := io.CopyBuffer(io.MultiWriter(writer, digest), file, make([]byte, min(1<<20, max(found.Size, 512))))
	if err == nil && size != found.Size {
		err = refusedf("%s changed while it was read", relative)
	}
	if err != nil {
		cancel()
		_ = writer.Close()
		return Sealed{}, err
	}
	if err := writer.Close(); err != nil {
		return Sealed{}, err
	}
	return Sealed{Path: found.Path, Size: size, Sha256: hex.EncodeToString(digest.Sum(nil))}, nil
}
