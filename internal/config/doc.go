// Package config reads the command line and the environment into a Config.
package config
