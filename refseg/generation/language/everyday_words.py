"""What people call the things of COCO's categories, and wider nouns that stand for several of them.

Sentences that were written for photographs hardly ever use a data set's own names: a person is a guy, the batter or
mom, a dining table is a table, an oven a stove. The lists were made by hand, with an eye on how often words occur in
the sentences of referring data sets; misspellings are there because people make them all the time.
"""

from __future__ import annotations

from refseg.generation.language.words import plural

__all__ = ["EVERYDAY", "TOKENS", "WIDER"]

_PERSON = """
    man, woman, guy, lady, girl, boy, kid, child, dude, player, baby, toddler, batter, catcher, umpire, ump, pitcher,
    hitter, skier, snowboarder, surfer, skater, skateboarder, rider, biker, cyclist, chef, cook, waiter, server, bride,
    groom, mom, mother, dad, father, grandma, grandpa, chick, gal, lad, fella, fellow, gentleman, adult, teen, teenager,
    worker, cop, officer, policeman, soldier, sailor, driver, passenger, runner, referee, ref, coach, fan, spectator,
    fielder, baseman, goalie, client, customer, friend, someone, somebody, brunette, blonde, redhead, clown, santa,
    speaker, singer, musician, student, teacher, doctor, male, female, human, individual, figure, pedestrian, boarder
"""
_LISTS: dict[str, str] = {
    "person": _PERSON,
    "bicycle": "bike, cycle",
    "car": "taxi, cab, suv, jeep, sedan, auto, automobile, minivan, hatchback, police car, vehicle",
    "motorcycle": "motorbike, bike, moto, scooter, moped, motor bike, harley",
    "airplane": "plane, jet, aircraft, aeroplane, airliner, helicopter",
    "bus": "coach, double decker, trolley, shuttle",
    "train": "engine, locomotive, tram, subway, trolley",
    "truck": "lorry, pickup, pick up, van, trailer, tow truck, fire truck, ambulance, semi",
    "boat": "ship, sailboat, canoe, kayak, yacht, raft, ferry",
    "traffic light": "stop light, light, signal, stoplight, street light",
    "fire hydrant": "hydrant",
    "stop sign": "sign",
    "parking meter": "meter",
    "bench": "seat, pew, bleachers",
    "bird": "duck, goose, swan, parrot, pigeon, seagull, gull, chicken, rooster, owl, eagle, pelican",
    "cat": "kitty, kitten, kit",
    "dog": "puppy, pup, doggie, doggy, pooch",
    "horse": "pony, stallion, mare, colt",
    "sheep": "lamb, goat, ram, ewe",
    "cow": "bull, calf, ox, steer, cattle, buffalo",
    "elephant": "elephants, ele, elephat",
    "bear": "cub, grizzly, polar bear, panda",
    "zebra": "zeb, zbra",
    "giraffe": "girafe, giraffee, giraff, girraffe, gir",
    "backpack": "bag, rucksack, pack, book bag",
    "umbrella": "parasol, umbrellas",
    "handbag": "bag, purse, pocketbook, tote",
    "tie": "necktie, bow tie",
    "suitcase": "luggage, bag, case, briefcase, trunk",
    "frisbee": "disc, disk",
    "skis": "ski",
    "snowboard": "board",
    "sports ball": "ball, baseball, soccer ball, tennis ball, basketball, football",
    "kite": "kites",
    "baseball bat": "bat",
    "baseball glove": "glove, mitt",
    "skateboard": "board",
    "surfboard": "board, surf board, paddle board",
    "tennis racket": "racket, racquet",
    "bottle": "beer, wine, water bottle, drink, jar, ketchup, mustard, soda",
    "wine glass": "glass, wine, goblet, drink",
    "cup": "mug, glass, coffee, drink, beverage, tumbler, beer, soda, juice, tea, coke",
    "fork": "forks, utensil",
    "knife": "blade, cutter",
    "spoon": "ladle, utensil",
    "bowl": "dish, soup, plate, salad, cereal, noodles, rice, stew, container, tray",
    "banana": "bananna, bananas",
    "apple": "apples",
    "sandwich": "sub, burger, hamburger, sandwhich, toast, bread, panini, wrap, bun, slider",
    "orange": "tangerine, grapefruit, lemon, clementine, citrus",
    "broccoli": "brocolli, brocoli, broc, veggie, veggies, vegetable, vegetables, greens, floret",
    "carrot": "carrots, veggie",
    "hot dog": "hotdog, sausage, frankfurter, frank, wiener, weiner",
    "pizza": "slice, pizza slice, pie, pizza pie",
    "donut": "doughnut, pastry, bagel, dessert",
    "cake": "cupcake, pastry, dessert, pie, muffin, brownie, cookie, slice, cheesecake, frosting, candy",
    "chair": "seat, stool, armchair, recliner, rocker, rocking chair, arm chair",
    "couch": "sofa, loveseat, love seat, cushion, futon, ottoman",
    "potted plant": "plant, flower, flowers, planter, pot, flower pot, bush, tree, fern",
    "bed": "mattress, bunk, bunk bed, blanket, bedspread, comforter, crib, pillow",
    "dining table": "table, desk, counter, tabletop, tablecloth, picnic table, countertop, table cloth",
    "toilet": "urinal, commode, toilet seat, toilet bowl",
    "tv": "television, screen, monitor, computer, display",
    "laptop": "computer, notebook, lap top, pc, macbook, screen",
    "mouse": "computer mouse",
    "remote": "controller, wii, wiimote, remote control, wii remote, clicker",
    "keyboard": "keys, key board",
    "cell phone": "phone, cellphone, mobile, smartphone, iphone, camera",
    "microwave": "micro, oven",
    "oven": "stove, stovetop, range, stove top",
    "toaster": "toaster oven",
    "sink": "basin, washbasin",
    "refrigerator": "fridge, freezer, refridgerator, frig, refrig",
    "book": "novel, magazine, notebook, textbook, page",
    "clock": "watch",
    "vase": "pot, jar, pitcher, urn, jug",
    "scissors": "shears, clippers, scissor",
    "teddy bear": "teddy, bear, stuffed animal, doll, stuffed bear, toy bear, toy",
    "hair drier": "hair dryer, dryer, blow dryer",
    "toothbrush": "brush, tooth brush",
}
EVERYDAY: dict[str, tuple[str, ...]] = {
    name: tuple(" ".join(word.split()) for word in words.split(",")) for name, words in _LISTS.items()
}
"""What people say for a category, singular."""

_FOOD = "banana apple sandwich orange broccoli carrot pizza donut cake hot_dog"
_ANIMALS = "bird cat dog horse sheep cow elephant bear zebra giraffe"
_WIDER: dict[str, str] = {
    "food": _FOOD,
    "meal": _FOOD,
    "snack": _FOOD,
    "fruit": "banana apple orange",
    "dessert": "cake donut",
    "veggie": "broccoli carrot",
    "vegetable": "broccoli carrot",
    "animal": _ANIMALS,
    "creature": _ANIMALS,
    "critter": _ANIMALS,
    "vehicle": "car bus truck motorcycle bicycle train",
    "furniture": "chair couch bed dining_table bench",
    "appliance": "oven refrigerator microwave toaster",
    "utensil": "fork knife spoon",
    "silverware": "fork knife spoon",
    "luggage": "suitcase backpack handbag",
    "electronics": "tv laptop cell_phone remote keyboard",
    "drink": "cup bottle wine_glass",
    "board": "surfboard skateboard snowboard",
    "rider": "person motorcycle bicycle",
}
WIDER: dict[str, tuple[str, ...]] = {
    word: tuple(name.replace("_", " ") for name in names.split()) for word, names in _WIDER.items()
}
"""Categories that a wider noun takes in."""

THINGS = ("thing", "object", "item", "one", "stuff", "thingy")
"""Nouns that say nothing."""

_MORE = """
    team family couple crowd group teams families couples crowds groups
    slice piece half part edge corner side blurry blurred partial partially striped stripes plaid checkered dotted
    polka floral flowered colored tall tallest taller shortest shorter biggest smaller laying lying kneeling
    squatting crouching bending leaning jumping smiling sleeping seated sitting standing looking facing touching
    holding wearing eating cutting riding bald curly haired bearded beard mustache ponytail shirtless skinny fat
    chubby old older elderly younger helmet hoodie uniform tshirt tee polo tank top sweatshirt apron leather denim
    khaki khakis shorts outfit sleeve sleeves collar backwards sideways upright closest nearest farthest furthest
    rightmost leftmost topmost foremost foreground background underneath beneath beside behind between tan beige
    maroon teal turquoise reddish brownish darker lighter brighter dark light blond blonde brunette blk wht grn yel
    lft rt rgt rite bttm btm mid midle middel center centre ctr lol pls butt legs arms elbow knee belly chin ear
    ears nose tail horns tusks trunk paw mane beak fur wing wheel tire windshield pillow blanket towel napkin tray
    basket bucket shelf drawer fence pole rug candle sauce cheese tomato lettuce bacon chocolate frosting icing
    sprinkles glazed powdered pepperoni sushi soup salad fries egg chicken meat steak
"""


def _tokens() -> tuple[str, ...]:
    said = [*EVERYDAY, *WIDER, *THINGS, *(word for words in EVERYDAY.values() for word in words)]
    words = [word for text in said for word in (*text.split(), plural(text).split()[-1])]
    return tuple(dict.fromkeys((*words, *_MORE.split())))


TOKENS = _tokens()
"""All words that occur above, and other common ones of such sentences: a vocabulary ought to know them."""
