package main

import (
	"fmt"
	"strings"

	"github.com/alecthomas/kong"
)

type completionCmd struct {
	Shell string `arg:"" enum:"bash,zsh,fish" help:"bash, zsh or fish."`
}

func (c *completionCmd) Help() string {
	return `Install it with one of:

  source <(ecsbuild completion bash)                            in ~/.bashrc
  ecsbuild completion zsh > "${fpath[1]}/_ecsbuild"             once
  ecsbuild completion fish > ~/.config/fish/completions/ecsbuild.fish   once`
}

func (c *completionCmd) Run(a *app, k *kong.Context) error {
	script := map[string]func([]*kong.Node) string{"bash": bash, "zsh": zsh, "fish": fish}[c.Shell]
	_, err := fmt.Fprint(a.stdout, script(k.Model.Children))
	return err
}

// containers finds them in what ecsbuild plan --json prints, one a line. A shell
// may expand what it is given, and a checkout may be anybody's: nothing passes
// that is not a container's name as ECS has it, nor one that would be taken for a flag.
const containers = `sed -n '/"containers"/,/]/ s/^ *"\([A-Za-z0-9_][A-Za-z0-9_-]*\)",*$/\1/p' | sort -u`

// askBash and askFish print the containers of the configuration that the words
// of a command line name. Bash and zsh read the first.
const (
	askBash = `_ecsbuild_containers() {
  local -a from
  local word value
  while (($#)); do
    word=$1 value=
    case $word in
      -C|--directory|-f|--file) [[ ${2-} == = ]] && shift; value=${2-}; (($# > 1)) && shift ;;
      --directory=*|--file=*) value=${word#*=} word=${word%%=*} ;;
      *) shift; continue ;;
    esac
    value=${value//[\\\"\']/} # as the shell will read it
    [[ $value == "~/"* ]] && value=$HOME/${value:2}
    from+=("$word" "$value")
    shift
  done
  ecsbuild plan --json "${from[@]}" 2>/dev/null | ` + containers + `
}
`
	replyBash = `_ecsbuild_reply() { # a word a line: neither spaces nor patterns of files count
  local line
  while IFS= read -r line; do COMPREPLY+=("$line"); done
}
`
	askFish = `function __ecsbuild_containers
  set -l words (commandline -opc)
  set -l from
  for i in (seq (count $words))
    if contains -- $words[$i] -C --directory -f --file
      set -a from $words[$i] $words[(math $i + 1)]
    end
  end
  ecsbuild plan --json $from 2>/dev/null | ` + containers + `
end
`
)

// flags are those of a command, --help among them.
func flags(n *kong.Node) (out []*kong.Flag) {
	for _, group := range n.AllFlags(true) {
		out = append(out, group...)
	}
	return out
}

// names of a flag, as it is written.
func names(f *kong.Flag) []string {
	if f.Short != 0 {
		return []string{"-" + string(f.Short), "--" + f.Name}
	}
	return []string{"--" + f.Name}
}

// words are those that a flag or an argument may have, "" for any.
func words(v *kong.Value) string { return strings.ReplaceAll(v.Enum, ",", " ") }

func bash(commands []*kong.Node) string {
	var b, byCommand strings.Builder
	seen := map[string]bool{}
	var all []string
	b.WriteString("# ecsbuild completion for bash\n" + askBash + replyBash +
		"_ecsbuild() {\n  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} command=\n  COMPREPLY=()\n  ((COMP_CWORD > 1)) && command=${COMP_WORDS[1]}\n  if [[ $cur == = ]]; then cur=; elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD-2]}; fi\n  case $command:$prev in\n")
	for _, n := range commands {
		all = append(all, n.Name)
		var offered []string
		for _, f := range flags(n) {
			offered = append(offered, "--"+f.Name)
			reply := `compgen -f -- "$cur"`
			switch {
			case f.IsBool():
				continue
			case f.Enum != "":
				reply = fmt.Sprintf(`compgen -W %q -- "$cur"`, words(f.Value))
			case f.PlaceHolder == "DIR":
				reply = `compgen -d -- "$cur"`
			case f.Name == "only":
				reply = `compgen -W "$(_ecsbuild_containers "${COMP_WORDS[@]}")" -- "$cur"`
			case f.PlaceHolder != "FILE":
				reply = ":"
			}
			var patterns []string
			for _, name := range names(f) {
				patterns = append(patterns, n.Name+":"+name)
			}
			if p := strings.Join(patterns, "|"); !seen[p] {
				seen[p] = true
				fmt.Fprintf(&b, "    %s) _ecsbuild_reply < <(%s); return ;;\n", p, reply)
			}
		}
		for _, arg := range n.Positional {
			if arg.Enum != "" {
				offered = append(offered, words(arg))
			}
		}
		files := ""
		if len(n.Positional) > 0 && n.Positional[0].Enum == "" {
			files = `; compgen -f -- "$cur"`
		}
		fmt.Fprintf(&byCommand, "    %s) _ecsbuild_reply < <(compgen -W %q -- \"$cur\"%s) ;;\n", n.Name,
			strings.Join(offered, " "), files)
	}
	fmt.Fprintf(&b, "  esac\n  case $command in\n    \"\") _ecsbuild_reply < <(compgen -W %q -- \"$cur\") ;;\n%s  esac\n}\ncomplete -o filenames -F _ecsbuild ecsbuild\n", strings.Join(all, " "), byCommand.String())
	return b.String()
}

// single quotes a text for zsh and fish.
func single(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

func zsh(commands []*kong.Node) string {
	var b strings.Builder
	b.WriteString("#compdef ecsbuild\n# ecsbuild completion for zsh\n" + askBash +
		"_ecsbuild() {\n  local -a commands\n  commands=(\n")
	text := strings.NewReplacer("[", "(", "]", ")", ":", `\:`).Replace
	for _, n := range commands {
		fmt.Fprintf(&b, "    %s\n", single(n.Name+":"+text(n.Help)))
	}
	b.WriteString("  )\n  if (( CURRENT == 2 )); then\n    _describe command commands\n    return\n  fi\n  local command=$words[2]\n  local -a typed=($words)\n  shift words # the command's own line begins with its name\n  (( CURRENT-- ))\n  case $command in\n")
	for _, n := range commands {
		fmt.Fprintf(&b, "    %s) _arguments -S", n.Name)
		for _, f := range flags(n) {
			value := ":" + strings.ToLower(f.PlaceHolder) + ":"
			switch {
			case f.IsBool():
				value = ""
			case f.Enum != "":
				value = ":value:(" + words(f.Value) + ")"
			case f.PlaceHolder == "FILE":
				value += "_files"
			case f.PlaceHolder == "DIR":
				value += "_files -/"
			case f.Name == "only":
				value += "{compadd -- ${(f)\"$(_ecsbuild_containers $typed)\"}}"
			}
			for _, name := range names(f) {
				fmt.Fprintf(&b, " \\\n      %s", single(name+"["+text(f.Help)+"]"+value))
			}
		}
		for _, arg := range n.Positional {
			if arg.Enum != "" {
				fmt.Fprintf(&b, " \\\n      %s", single("1:"+arg.Name+":("+words(arg)+")"))
			} else {
				fmt.Fprintf(&b, " \\\n      %s", single("*:"+arg.Name+":_files"))
			}
		}
		b.WriteString(" ;;\n")
	}
	b.WriteString("  esac\n}\nif [[ $funcstack[1] = _ecsbuild ]]; then _ecsbuild \"$@\"; else compdef _ecsbuild ecsbuild; fi\n")
	return b.String()
}

func fish(commands []*kong.Node) string {
	var b strings.Builder
	b.WriteString("# ecsbuild completion for fish\n" + askFish + "complete -c ecsbuild -f\n")
	for _, n := range commands {
		fmt.Fprintf(&b, "complete -c ecsbuild -n __fish_use_subcommand -a %s -d %s\n", n.Name, single(n.Help))
	}
	for _, n := range commands {
		line := "complete -c ecsbuild -n '__fish_seen_subcommand_from " + n.Name + "'"
		for _, f := range flags(n) {
			fmt.Fprintf(&b, "%s -l %s", line, f.Name)
			if f.Short != 0 {
				fmt.Fprintf(&b, " -s %c", f.Short)
			}
			switch {
			case f.IsBool():
			case f.Enum != "":
				fmt.Fprintf(&b, " -x -a %s", single(words(f.Value)))
			case f.PlaceHolder == "FILE":
				b.WriteString(" -r -F")
			case f.PlaceHolder == "DIR":
				b.WriteString(" -x -a '(__fish_complete_directories)'")
			case f.Name == "only":
				b.WriteString(" -x -a '(__ecsbuild_containers)'")
			default:
				b.WriteString(" -x")
			}
			fmt.Fprintf(&b, " -d %s\n", single(f.Help))
		}
		for _, arg := range n.Positional {
			if arg.Enum != "" {
				fmt.Fprintf(&b, "%s -a %s\n", line, single(words(arg)))
			} else {
				fmt.Fprintf(&b, "%s -F\n", line)
			}
		}
	}
	return b.String()
}
