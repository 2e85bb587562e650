package main

import (
	"bytes"
	"io"
	"path/filepath"
	"strings"

	"github.com/ecsbuild/ecsbuild/internal/artifact"
	"github.com/ecsbuild/ecsbuild/internal/fault"
	"github.com/ecsbuild/ecsbuild/internal/report"
)

// reportFormat chooses by the file's name, before anything is built.
func reportFormat(file string) (write func(report.Report, io.Writer) error, err error) {
	switch strings.ToLower(filepath.Ext(file)) {
	case ".html":
		return report.Report.WriteHTML, nil
	case ".json":
		return report.Report.WriteJSON, nil
	}
	if file == "" {
		return nil, nil
	}
	return nil, &fault.Error{What: "--report " + file + ": its name says neither .html nor .json",
		Fix: "name it as in --report ecsbuild.html"}
}

// writeReport writes the report of a run, also of one that failed.
func writeReport(file string, account report.Report, format func(report.Report, io.Writer) error) error {
	if format == nil {
		return nil
	}
	var b bytes.Buffer
	if err := format(account, &b); err != nil {
		return err
	}
	return artifact.File{Path: file, Kind: artifact.Report, Flag: "--report"}.Write(b.Bytes())
}

// summarize adds the account to the summary of a job of GitHub Actions. What
// cannot be written there does not fail the run.
func (a *app) summarize(account report.Report) (warning string) {
	file := a.githubFile("GITHUB_STEP_SUMMARY")
	if file == "" {
		return ""
	}
	var b strings.Builder
	err := account.Markdown(&b)
	if err == nil {
		err = appendTo(file, b.String())
	}
	if err != nil {
		return "the job summary was not written: " + err.Error()
	}
	return ""
}
