package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/plan"
	"github.com/ecsbuild/ecsbuild/internal/progress"
)

// reportFormat chooses by the file's name, before anything is built.
func reportFormat(file string) (write func(progress.Report, io.Writer) error, err error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".html":
		return progress.Report.WriteHTML, nil
	case ".json":
		return progress.Report.WriteJSON, nil
	}
	if file == "" {
		return nil, nil
	}
	return nil, &plan.Error{What: "--report " + file + ": its name says neither .html nor .json", Fix: "name it as in --report ecsbuild.html"}
}

// writeReport writes the account of a run, also of one that failed.
func writeReport(dir, file string, account progress.Report, write func(progress.Report, io.Writer) error) error {
	if write == nil {
		return nil
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(dir, file)
	}
	f, err := os.Create(file)
	if err == nil {
		err = write(account, f)
		if cerr := f.Close(); err == nil {
			err = cerr
		}
	}
	if err != nil {
		return fmt.Errorf("the report cannot be written: %v", err) // its own error: the run itself went as it says
	}
	return nil
}

// summarize adds the account to the summary of a job of GitHub Actions. What
// cannot be written there costs no run.
func (a *app) summarize(account progress.Report) {
	file := a.getenv("GITHUB_STEP_SUMMARY")
	if file == "" || a.getenv("GITHUB_ACTIONS") != "true" {
		return
	}
	f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err == nil {
		err = account.Markdown(f)
		_ = f.Close()
	}
	if err != nil {
		fmt.Fprintln(a.stderr, "ecsbuild: warning: the job summary was not written: "+err.Error())
	}
}
