# Types of options: what values they take, and how several definitions become one.
{ definitions }:
let
  inherit (builtins)
    all
    any
    attrNames
    concatLists
    concatMap
    concatStringsSep
    elem
    filter
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isPath
    isString
    listToAttrs
    match
    substring
    tail
    toString
    ;

  named = name: check: {
    _type = "option-type";
    description = name;
    inherit check;
    merge = same;
  };

  same =
    path: values:
    if all (value: value == head values) (tail values) then
      head values
    else
      throw "The option `${concatStringsSep "." path}' has conflicting definitions.";

  isPathLike =
    value: isPath value || (isString value || value ? outPath) && substring 0 1 (toString value) == "/";

  # Lists of several definitions are put together, as for a unit's own settings.
  joined = path: values: if all isList values then concatLists values else same path values;

  names = values: attrNames (builtins.foldl' (found: value: found // value) { } values);
in
rec {
  bool = named "boolean" isBool;
  int = named "integer" isInt;
  number = named "number" (value: isInt value || isFloat value);
  str = named "string" isString;
  path = named "absolute path" isPathLike;
  package = named "package" (value: value ? outPath);
  port = bounded 0 65535;
  bounded =
    low: high:
    addCheck int (value: value >= low && value <= high)
    // {
      description = "integer from ${toString low} to ${toString high}";
    };

  addCheck = type: check: type // { check = value: type.check value && check value; };
  enum = values: named "one of ${builtins.toJSON values}" (value: elem value values);
  strMatching =
    pattern:
    named "string like ${pattern}" (value: isString value && match pattern value != null);

  lines = str // {
    merge = _: concatStringsSep "\n";
  };

  nullOr =
    type:
    named "null or ${type.description}" (value: value == null || type.check value)
    // {
      merge = path: values: if any isNull values then same path values else type.merge path values;
    };

  oneOf =
    kinds:
    named (concatStringsSep " or " (map (kind: kind.description) kinds)) (
      value: any (kind: kind.check value) kinds
    );

  listOf =
    type:
    named "list of ${type.description}" (value: isList value && all type.check value)
    // {
      merge = _: concatLists;
    };

  attrsOf =
    type:
    named "set of ${type.description}" isAttrs
    // {
      merge =
        path: values:
        let
          pushed = concatMap definitions.pushed values;
          one =
            name:
            let
              given = map (value: value.${name}) (filter (value: value ? ${name}) pushed);
              found = concatMap definitions.discharged given;
            in
            if found == [ ] then
              [ ]
            else
              [
                {
                  inherit name;
                  value = definitions.valueOf (path ++ [ name ]) { inherit type; } given;
                }
              ];
        in
        listToAttrs (concatMap one (names pushed));
    };

  submodule =
    options:
    named "submodule" isAttrs
    // {
      merge =
        path: values: definitions.resolved path options (concatMap definitions.pushed values);
    };

  # What systemd's own settings may be.
  unitOption =
    oneOf [
      bool
      int
      str
      (listOf str)
    ]
    // {
      merge = joined;
    };

  # Anything that a configuration file of another program may hold.
  value = named "value" (_: true) // {
    merge =
      path: values: if all isAttrs values then (attrsOf value).merge path values else joined path values;
  };

  # A choice from the packages of PostgreSQL, told by their names.
  choice =
    available:
    named "function" isFunction
    // {
      merge = _: concatMap (choose: choose available);
    };
}
