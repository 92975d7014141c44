"""Words of referring expressions that are no nouns: places, order, size, number, colours, relations; and slips of them.

Counted over what people write: sides are abbreviated ("lft", "rt"), articles left out, two hints given at once.
"""

from __future__ import annotations

from types import MappingProxyType

__all__ = [
    "ACTIONS",
    "ANIMATE",
    "ATTRIBUTIVE",
    "BODY_SIDES",
    "COLOUR_WORDS",
    "CONTAINERS",
    "EXCLUDING",
    "FILLERS",
    "FREQUENT_LINKS",
    "GARMENTS",
    "LINKS",
    "LOOKS",
    "NEGATIONS",
    "NOT_PLACES_AFTER",
    "NO_PLURAL",
    "NUMBERS",
    "ORDINALS",
    "PARTITIVES",
    "PARTS",
    "PATTERNS",
    "PICTURE",
    "PLURAL_PEOPLE",
    "POSSESSING",
    "PRONOUNS",
    "QUANTIFIERS",
    "READ_AS_WITH",
    "SIDES",
    "SIZES",
    "STRONG",
    "known_words",
    "words_in",
]


def words_in(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


def _by_word(lists: dict[str, str]) -> MappingProxyType[str, str]:
    return MappingProxyType({word: name for name, words in lists.items() for word in words.split()})


SIDES = _by_word(
    {
        "left": "left lft leftmost lefthand lefty leftest lhs letf lef leftside l",
        "right": "right rt rgt rite rightmost righthand righty rightest rhs rigth rihgt rightside r",
        "top": "top upper highest topmost uppermost upmost",
        "bottom": "bottom btm bttm bttom botom lower lowest bottommost lowermost bpttom",
        "middle": "middle mid center centre ctr central midle middel centered",
        "near": "front closest nearest foreground close closer closes frt fron frotn foremost forefront frontmost",
        "edge": "cutoff",
        "far": "back rear background farthest furthest farther further distance backmost hindmost distant fartest",
    }
)
"""Words for a side of the picture, or for near and far; "cutoff" is what `words.words_of` makes of "partly out of
view" and the like."""
STRONG = words_in("far very most extreme furthest farthest all way leftmost rightmost")
"""Said with a side: the outermost."""
SIZES = _by_word(
    {
        "big": "big bigger biggest large larger largest huge giant main",
        "small": "small smaller smallest little tiny tiniest littlest lil baby mini",
        "tall": "tall taller tallest",
        "short": "short shorter shortest",
        "wide": "wide wider widest",
        "thin": "thin thinner thinnest narrow",
    }
)
NUMBERS = MappingProxyType(
    {word: n for n, word in enumerate(["two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"], 2)}
    | {str(n): n for n in range(2, 11)}
)
_ENDS = "st nd rd th th th th th th th"
_RANKS = "first second third fourth fifth sixth seventh eighth ninth tenth"
ORDINALS = MappingProxyType(
    {word: number for number, word in enumerate(_RANKS.split(), 1)}
    | {f"{number}{tail}": number for number, tail in enumerate(_ENDS.split(), 1)}
)
QUANTIFIERS = words_in("all every each both everyone everybody everything")
PICTURE = words_in(
    "picture image photo pic photograph screen frame scene us camera viewer you me shot view cam img frame line"
)
"""What a side of which is the picture's side: "left of the picture", "closest to us"."""
PRONOUNS = words_in(
    "one ones thing things object objects item items stuff thingy something anything it them others other"
)
"""Nouns that say nothing."""
PARTITIVES = words_in(
    """
    piece pieces slice slices half halves part portion bit side sides corner edge group bunch pair pairs lot lots stack
    pile row set kind type section end top bottom middle center front back rest most couple quarter chunk
    """
)
"""Of "piece of pizza" the pizza is meant."""
CONTAINERS = words_in(
    "bowl cup glass plate vase bottle box basket tray dish jar pot container mug bag pan platter can stack"
)

GARMENTS = words_in(
    """
    shirt shirts jacket jackets coat coats hat hats dress dresses sweater suit pants jeans shorts skirt blouse vest
    helmet shoes hoodie hoody jersey uniform tshirt t-shirt tee top cap beard outfit scarf sweatshirt robe apron
    overalls blazer glasses sunglasses goggles gloves boots sneakers sandals socks tie bow beanie bandana headband
    clothes clothing trunks tights leggings cardigan gown tux tuxedo costume mask tank polo khakis trousers pajamas
    bikini swimsuit sleeves sleeve collar hood visor belt necklace watch earrings stripes stripe plaid dots
    """
)
PARTS = words_in(
    """
    hair face head arm arms hand hands leg legs foot feet finger fingers ear ears eye eyes nose mouth neck shoulder
    shoulders elbow knee knees butt chest belly body mustache ponytail tail tails horns trunk mane beak wing paw fur
    spots skin teeth tongue chin lap waist tusks
    """
)
"""Parts of persons and animals: colours said of them may show, themselves they are not found."""

PATTERNS = words_in("striped stripy stripey checked checkered dotted spotted plaid patterned plain floral colorful")

COLOUR_WORDS: MappingProxyType[str, MappingProxyType[str, float]] = MappingProxyType(
    {
        word: MappingProxyType({name: float(share) for name, share in zip(row[::2], row[1::2], strict=True)})
        for word, row in (
            (line.split(":")[0].strip(), line.split(":")[1].split())
            for line in """
            black: black 1
            blk: black 1
            dark: black .7 brown .2 blue .1
            white: white 1
            whit: white 1
            wht: white 1
            withe: white 1
            light: white .6 gray .3
            bright: white .3 yellow .3
            gray: gray 1
            grey: gray 1
            silver: gray 1 white .4
            metal: gray .8 white .3
            metallic: gray .8 white .3
            red: red 1
            reddish: red .7 brown .5
            maroon: red .8 brown .4
            burgundy: red .8 brown .4
            orange: orange 1
            peach: orange .6 pink .4
            ginger: orange .9 brown .4
            yellow: yellow 1
            yel: yellow 1
            gold: yellow .8 brown .4
            golden: yellow .7 orange .4 brown .4
            blond: yellow .6 brown .4
            blonde: yellow .6 brown .4
            green: green 1
            grn: green 1
            greenish: green 1
            olive: green .8 brown .4
            teal: green .6 blue .6
            turquoise: green .5 blue .7
            aqua: blue .8 green .4
            camo: green .7 brown .5
            blue: blue 1
            navy: blue 1 black .5
            bluish: blue 1
            denim: blue 1
            purple: purple 1
            purp: purple 1
            violet: purple 1
            lavender: purple .8 pink .3
            pink: pink 1
            pinkish: pink 1
            magenta: pink .8 purple .5
            brown: brown 1
            brownish: brown 1
            tan: brown .8 yellow .2 orange .2
            beige: brown .5 white .5 yellow .2
            khaki: brown .8 green .3
            cream: white .8 yellow .3
            wooden: brown 1
            wood: brown 1
            """.strip().splitlines()
        )
    }
)
"""Shares of `refseg.models.instances.types.COLOURS` that a word asks for."""

LINKS: tuple[tuple[str, str], ...] = tuple(
    (words, name)
    for name, listed in (
        (
            "left_of",
            "to the left of, on the left of, on left of, to left of, left of, left side of, on the left side of",
        ),
        (
            "right_of",
            "to the right of, on the right of, on right of, to right of, right of, right side of, on the right side of",
        ),
        ("in_front_of", "in front of, infront of, ahead of, front of"),
        ("behind", "in back of, behind, in the back of, beyond"),
        ("between", "in between, inbetween, between"),
        ("nearest", "closest to, nearest to, nearest, closer to, close to"),
        (
            "next_to",
            "next to, right next to, right by, beside, besides, alongside, adjacent to, by, near, at, against, around",
        ),
        ("on", "on top of, sitting on, standing on, laying on, lying on, ontop of, atop, resting on, on"),
        ("under", "underneath, beneath, under, below"),
        ("above", "above, over"),
        ("in", "inside of, inside, within, in, into, dressed in"),
        ("wearing", "wearing, wears"),
        (
            "with",
            "holding, carrying, with, w, has, having, using, eating, riding, reading, playing, pushing, pulling",
        ),
        (
            "with",
            "holds, driving, feeding, cutting, drinking, swinging, throwing, covered with, full of, filled with",
        ),
        ("without", "without, with no, not wearing, no, not in, not on, minus, not"),
        ("of", "of"),
        (
            "facing",
            "looking at, facing, looking, watching, pointing, turned, staring at, talking to, away from, reaching",
        ),
        ("from", "from"),
        ("to", "to, for, about, through, toward, towards, across, off, out of, out, up to"),
    )
    for words in (part.strip() for part in listed.split(","))
)
"""What links a phrase to another one, by what it says; the longest wording is read first."""
EXCLUDING = (
    "everyone but",
    "everybody but",
    "except for",
    "other than",
    "apart from",
    "aside from",
    "but not",
    "all but",
    "and not",
    "not the",
    "except",
    "excluding",
    "excepting",
)
_POSES = words_in(
    """
    standing sitting walking laying lying leaning smiling running jumping riding playing bending kneeling posing resting
    parked talking getting going doing looking facing holding sleeping seated swinging flying floating eating grazing
    crouching squatting away towards
    """
)
ACTIONS = _POSES | words_in(
    """
    carrying holds using reading pushing pulling driving feeding cutting drinking throwing watching pointing turned
    staring reaching filled
    """
)
"""Actions, poses and views: nothing here sees them, and who asks is told so. The second part are links, too."""
LOOKS = words_in(
    """
    striped plaid empty blurry young old older younger long round square open closed bald curly haired asian shirtless
    skinny fat chubby happy cute nice tattooed covered dirty clean wet dry shiny plain solid colorful patterned
    checkered dotted floral hidden alone secondhand
    """
)
"""States and looks that nothing here sees, told likewise."""
READ_AS_WITH = words_in(
    """
    using eating riding reading playing pushing pulling driving feeding cutting drinking swinging throwing covered
    filled
    """
)
"""Links of which only that something is with something is read."""
POSSESSING = words_in("holding holds carrying")
"""Actions that a relation "with" says as well as anything could."""
ATTRIBUTIVE = words_in("eating reading playing pushing pulling feeding drinking swinging throwing using")
"""Links that, right before a person or an animal, say what it does ("eating bear")."""
ANIMATE = words_in("person bird cat dog horse sheep cow elephant bear zebra giraffe")
"""Classes of what acts."""
NEGATIONS = words_in("not without no minus")
FILLERS = (
    words_in(
        """
        the a an that is are who which this there s t it's its his her their our my your be being was were i can see he
        she please find show segment where select look at here just only whole entire full kind sort of really lol sorry
        and or person's also same as you do does have thats whos will would click looks like pls select appears shown
        visible seen colored color coloured colour wearing tallest cut off some very more most side corner hand number
        way up down over almost completely partially mostly slightly part area position photo picture image pic screen
        any another other directly against than along among well plus wear worn own too barely
        """
    )
    | _POSES
    | LOOKS
)
"""Words of expressions that neither name nor place anything by themselves here: they are not taken for nouns."""
PLURAL_PEOPLE = words_in("people persons men women children kids guys ladies girls boys folks everyone everybody")
NO_PLURAL = words_in(
    """
    glasses sunglasses goggles pants jeans shorts skis scissors shoes boots gloves socks bus dress grass s us
    trunks clothes leggings tights glass tennis stripes dots overalls khakis trousers pajamas binoculars
    headphones heels pumps sneakers sandals loafers stockings accessories
    """
)
"""Words on s that name one thing."""
FREQUENT_LINKS = "with behind front next between holding wearing except closest sitting standing"
"""Links as which a misspelt word may be read."""
NOT_PLACES_AFTER = frozenset(("facing", "looking", "turned", "his", "her", "their", "its"))
"""Words after which a side is the person's own, or where somebody looks."""
BODY_SIDES = frozenset(
    ("arm", "leg", "foot", "eye", "ear", "knee", "shoulder", "elbow", "paw", "wing", "wrist", "horn")
)
"""Parts of which there is a left and a right one."""


def known_words() -> tuple[str, ...]:
    """Words with a meaning of their own as which a misspelt one may be read."""
    groups = (SIDES, SIZES, NUMBERS, ORDINALS, COLOUR_WORDS, QUANTIFIERS, GARMENTS, PARTS, PRONOUNS, PARTITIVES)
    words = [word for group in groups for word in group]
    return tuple(dict.fromkeys(word for word in words if len(word) > 2))
