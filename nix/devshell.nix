# What one works on this repository with; `./scripts/ai-stack-manage.sh test` brings the rest.
{ pkgs }:
pkgs.mkShell {
  packages = [
    pkgs.bubblewrap
    pkgs.chromium
    pkgs.gnumake
    pkgs.nixfmt
    pkgs.python311
    pkgs.uv
  ];
  # Wheels bring programs that look for the C++ library where other systems have it.
  env.LD_LIBRARY_PATH = pkgs.lib.makeLibraryPath [
    pkgs.stdenv.cc.cc
    pkgs.zlib
  ];
}
