package client

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"go.yaml.in/yaml/v3"
)

// Config is the file that remembers which clusters a user has access to.
type Config struct {
	// Current names the context that is used when none is asked for.
	Current string `yaml:"current,omitempty"`
	// Contexts by their names.
	Contexts map[string]*Context `yaml:"contexts,omitempty"`
}

// Context is the access to one cluster.
type Context struct {
	// Endpoints are HOST:PORT of control-plane nodes' APIs; the first one that
	// answers is used. They pass calls on to every other node.
	Endpoints []string `yaml:"endpoints"`
	// Nodes are the names of the nodes behind Endpoints, in the same order.
	Nodes []string `yaml:"nodes,omitempty"`
	// Kubernetes is the URL under which this user's machine reaches the
	// Kubernetes API; empty when it is the cluster's own endpoint.
	Kubernetes string `yaml:"kubernetes,omitempty"`
	// CA, Cert and Key are PEM.
	CA   string `yaml:"ca"`
	Cert string `yaml:"cert"`
	Key  string `yaml:"key"`
}

// ConfigPath is where the file is looked for: $OSCTL_CONFIG, else
// keelson/config.yaml in the user's config directory.
func ConfigPath() (string, error) {
	if path := os.Getenv("OSCTL_CONFIG"); path != "" {
		return path, nil
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return "", fmt.Errorf("find the client config (set OSCTL_CONFIG to its path): %w", err)
	}
	return filepath.Join(dir, "keelson", "config.yaml"), nil
}

// LoadConfig reads the file. A file that does not exist is an empty config.
func LoadConfig(path string) (*Config, error) {
	config := &Config{Contexts: map[string]*Context{}}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the client config: %w", err)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	// The decoder's own errors quote the text, which holds keys.
	if err := decoder.Decode(config); err != nil && len(bytes.TrimSpace(text)) > 0 {
		return nil, fmt.Errorf("read the client config %s: %s", path, withoutValues(err))
	}
	if config.Contexts == nil {
		config.Contexts = map[string]*Context{}
	}
	for name, context := range config.Contexts {
		if context == nil || len(context.Endpoints) == 0 {
			return nil, fmt.Errorf("read the client config %s: context %q has no endpoints", path, name)
		}
	}
	return config, nil
}

// withoutValues keeps the line of a YAML error and drops what it quotes.
func withoutValues(err error) string {
	var typed *yaml.TypeError
	if !errors.As(err, &typed) || len(typed.Errors) == 0 {
		return err.Error()
	}
	line, _, found := strings.Cut(typed.Errors[0], ":")
	if !found {
		return "a value of the wrong type"
	}
	return line + ": an unknown field or a value of the wrong type"
}

// Save writes the file for its owner only, all at once: a reader sees the old
// content or the new one, also after a power cut.
func (config *Config) Save(path string) error {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(config); err != nil {
		return fmt.Errorf("encode the client config: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("make the client config's directory: %w", err)
	}
	if err := renameio.WriteFile(path, out.Bytes(), 0o600, renameio.IgnoreUmask()); err != nil {
		return fmt.Errorf("write the client config: %w", err)
	}
	return nil
}

// Get returns a context by its name; the empty name means the current one.
// The error names the contexts there are.
func (config *Config) Get(name string) (*Context, error) {
	if name == "" {
		name = config.Current
	}
	if name == "" {
		return nil, errors.New("no context is chosen: create a cluster (osctl cluster create), or choose one (osctl config use, --context)")
	}
	context, ok := config.Contexts[name]
	if !ok {
		return nil, fmt.Errorf("no context %q; there are: %s", name, list(config.Names()))
	}
	return context, nil
}

// Names returns the contexts' names, sorted.
func (config *Config) Names() []string {
	return slices.Sorted(maps.Keys(config.Contexts))
}

// Remove removes a context, if it exists; no other becomes current.
func (config *Config) Remove(name string) {
	delete(config.Contexts, name)
	if config.Current == name {
		config.Current = ""
	}
}

// UpdateConfig reads the file, changes it, and writes it again. Programs that
// do so at the same time take turns: none loses what another wrote.
func UpdateConfig(path string, change func(*Config) error) error {
	unlock, err := lockDir(filepath.Dir(path))
	if err != nil {
		return fmt.Errorf("lock the client config %s: %w", path, err)
	}
	defer unlock()
	config, err := LoadConfig(path)
	if err != nil {
		return err
	}
	if err := change(config); err != nil {
		return err
	}
	return config.Save(path)
}

func list(names []string) string {
	if len(names) == 0 {
		return "none yet"
	}
	return strings.Join(names, ", ")
}
