package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"slipway/api"
	"slipway/api/client"
	"slipway/durable"
)

// config is what the command remembers between runs.
type config struct {
	Current string                    `json:"current,omitempty"`
	Racks   map[string]client.Context `json:"racks"`
}

func (c config) names() []string { return slices.Sorted(maps.Keys(c.Racks)) }

// unknown is the error for a rack that is not remembered.
func (c config) unknown(name string) error {
	return api.NotFoundSee("rack", name, c.names(), "slipway context; or remember one: slipway login ADDRESS")
}

// configPath is $SLIPWAY_CONFIG, or else slipway/config.json in the user's configuration.
func (s *shell) configPath() (string, error) {
	if path := s.env["SLIPWAY_CONFIG"]; path != "" {
		return path, nil
	}
	dir := s.env["XDG_CONFIG_HOME"]
	if dir == "" {
		home := s.env["HOME"]
		if home == "" {
			return "", usage("neither SLIPWAY_CONFIG nor HOME is set; there is no place for the configuration")
		}
		dir = filepath.Join(home, ".config")
	}
	return filepath.Join(dir, "slipway", "config.json"), nil
}

func (s *shell) loadConfig() (config, error) {
	conf := config{Racks: map[string]client.Context{}}
	path, err := s.configPath()
	if err != nil {
		return conf, err
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return conf, nil
	}
	if err != nil {
		return conf, fmt.Errorf("read the configuration: %w", err)
	}
	if err := json.Unmarshal(text, &conf); err != nil {
		return conf, fmt.Errorf("read the configuration %s: %w; repair or remove it", path, err)
	}
	if conf.Racks == nil {
		conf.Racks = map[string]client.Context{}
	}
	return conf, nil
}

// saveConfig writes the file whole or not at all; it holds tokens, so that only its owner can
// read it.
func (s *shell) saveConfig(conf config) error {
	path, err := s.configPath()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("save the configuration: %w", err)
	}
	text, err := json.MarshalIndent(conf, "", "  ")
	if err != nil {
		return fmt.Errorf("save the configuration: %w", err)
	}
	if err := durable.WriteFile(path, append(text, '\n')); err != nil {
		return fmt.Errorf("save the configuration: %w", err)
	}
	return nil
}

// chooseRack finds the rack to talk to: -r, $SLIPWAY_RACK, $SLIPWAY_ADDR, the current one. name is
// what it is remembered by.
func (s *shell) chooseRack(conf config) (name string, target client.Context, err error) {
	name = s.rackFlag
	if name == "" {
		name = s.env["SLIPWAY_RACK"]
	}
	if addr := s.env["SLIPWAY_ADDR"]; name == "" && addr != "" {
		target, err = s.rackFromEnv(addr)
		return "", target, err
	}
	if name == "" {
		name = conf.Current
	}
	if name == "" {
		return "", target, usage("no rack is chosen; run: slipway login ADDRESS, or: slipway context use NAME")
	}
	target, ok := conf.Racks[name]
	if !ok {
		return "", target, conf.unknown(name)
	}
	return name, target, nil
}

// rackFromEnv is for machines that have no configuration, such as those of CI.
func (s *shell) rackFromEnv(addr string) (client.Context, error) {
	target := client.Context{Addr: addr, Token: s.env["SLIPWAY_TOKEN"]}
	if file := s.env["SLIPWAY_CA"]; file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return target, usage("read SLIPWAY_CA: %w", err)
		}
		target.CA = string(pem)
	}
	return target, nil
}
