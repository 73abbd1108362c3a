# AI Stack as the lock has it: the wheels that it was tested with, checked by the lock's hashes.
{
  lib,
  autoPatchelfHook,
  bubblewrap,
  cacert,
  makeWrapper,
  python311,
  stdenv,
  stdenvNoCC,
  zlib,
  # That of the wheels' folder; after a change of the lock the build tells the new one.
  wheelsHash ? builtins.readFile ./wheels.hash,
}:
let
  python = python311;
  version = builtins.head (
    builtins.match ".*__version__ = \"([^\"]+)\".*" (builtins.readFile ../src/ai_stack/__init__.py)
  );

  # Another lock has another name, so that no wheels of the one before are taken for its own.
  locks = builtins.hashString "sha256" (
    builtins.readFile ../requirements.lock + builtins.readFile ../requirements-dev.lock
  );

  # The one step that uses the network.
  wheels = stdenvNoCC.mkDerivation {
    pname = "ai-stack-wheels";
    version = builtins.substring 0 12 locks;
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        ../requirements.lock
        ../requirements-dev.lock
        ./wheels.sh
      ];
    };
    nativeBuildInputs = [ (python.withPackages (packages: [ packages.pip ])) ];
    env.PIP_CERT = "${cacert}/etc/ssl/certs/ca-bundle.crt";
    impureEnvVars = lib.fetchers.proxyImpureEnvVars;
    dontConfigure = true;
    dontFixup = true;
    buildPhase = "HOME=$TMPDIR bash nix/wheels.sh wheels";
    installPhase = "cp -r wheels $out";
    outputHashMode = "recursive";
    outputHash = lib.trim wheelsHash;
  };
in
stdenv.mkDerivation {
  pname = "ai-stack";
  inherit version;
  src = lib.fileset.toSource {
    root = ../.;
    fileset = lib.fileset.unions [
      ../pyproject.toml
      ../README.md
      ../LICENSE
      ../src
    ];
  };

  nativeBuildInputs = [
    autoPatchelfHook
    makeWrapper
  ];
  buildInputs = [
    (lib.getLib stdenv.cc.cc)
    zlib
  ];
  autoPatchelfIgnoreMissingDeps = true; # what wheels bring for machines of another kind
  dontConfigure = true;
  dontStrip = true;

  # A virtual environment, since the stack starts its parts by its own interpreter.
  buildPhase = ''
    runHook preBuild
    ${python.interpreter} -m venv $out
    install="$out/bin/python -m pip install --no-index --no-deps --no-build-isolation --no-cache-dir"
    $install ${wheels}/*.whl
    $install ${wheels}/*.tar.gz
    $install .
    runHook postBuild
  '';
  installPhase = ''
    runHook preInstall
    $out/bin/python -m pip uninstall --yes pip
    wrapProgram $out/bin/ai-stack --suffix PATH : ${lib.makeBinPath [ bubblewrap ]}
    runHook postInstall
  '';

  passthru = { inherit wheels; };
  meta = {
    description = "AI on your own machine: documents, search and language models behind one gateway";
    license = lib.licenses.mit;
    mainProgram = "ai-stack";
    platforms = [ "x86_64-linux" ];
  };
}
