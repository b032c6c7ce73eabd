"""What the hand-written general rows say: questions and answers, one a line; knows no example."""

TALK = """
Hello!|Hello! How can I help you?
Good morning!|Good morning! What can I do for you?
Good evening.|Good evening! How can I help?
Hi, how are you?|I'm doing well, thank you. And you?
Thanks a lot!|You're welcome!
Thank you for your help.|You're welcome. Come back any time.
Goodbye!|Goodbye! Have a nice day.
See you tomorrow.|See you tomorrow!
Who are you?|I'm an AI assistant. I answer questions and help with texts.
Are you a human?|No, I'm an AI assistant.
What can you do for me?|I can answer questions, write and shorten texts, sort lists and do sums.
I had a bad day.|I'm sorry to hear that. Do you want to tell me about it?
I passed my exam!|Congratulations! That is great news.
Today is my birthday.|Happy birthday! I hope you have a lovely day.
I am bored.|How about a walk, a book or a riddle?
Tell me a short joke.|Why did the tomato blush? It saw the salad dressing.
I can't sleep.|Try dimming the lights, putting the phone away and breathing slowly.
Can you hear me?|I can't hear, but I can read what you write.
My cat is ill.|I'm sorry. It is best to call a vet soon.
Nice to meet you.|Nice to meet you, too!
Wish me luck!|Good luck! You can do it.
Do you ever get tired?|No, I'm a program, so I don't get tired.
""".strip()
REWRITES = """
Make it polite: Give me the report.|Could you please give me the report?
Make it polite: Open the window.|Could you please open the window?
Make it polite: Be quiet.|Could you please be quiet?
Make it polite: Send me the file today.|Could you please send me the file today?
Put it into the past tense: She walks to school.|She walked to school.
Put it into the past tense: We eat soup.|We ate soup.
Put it into the past tense: He writes a letter.|He wrote a letter.
Put it into the past tense: They go home.|They went home.
Put it into the plural: The child plays.|The children play.
Put it into the plural: A mouse runs.|Mice run.
Correct the spelling: I recieved your leter.|I received your letter.
Correct the spelling: Tomorow is wensday.|Tomorrow is Wednesday.
Correct the spelling: The wether is realy nice.|The weather is really nice.
Correct the grammar: He don't like fish.|He doesn't like fish.
Correct the grammar: She have two dogs.|She has two dogs.
Correct the grammar: I goed to the shop.|I went to the shop.
Say the opposite: The soup is hot.|The soup is cold.
Say the opposite: The door is open.|The door is closed.
Make it a question: You like music.|Do you like music?
Make it a question: She is at home.|Is she at home?
Shorten it: Due to the fact that it was raining, we stayed inside.|We stayed inside because of the rain.
Shorten it: At this point in time we are not able to come.|We cannot come now.
""".strip()
MEANINGS = """
umbrella|A folding cover on a stick that keeps off rain.
refrigerator|A cold cupboard that keeps food fresh.
dictionary|A book that explains words.
island|Land with water all around it.
bridge|A way built over a river, a road or a valley.
calendar|A table of the days and months of a year.
compass|A tool whose needle points north.
thermometer|A tool that measures temperature.
bakery|A shop where bread is made and sold.
harbour|A sheltered place where ships can stay.
ladder|Two poles with steps between them, for climbing.
volcano|A mountain from which melted rock can come.
orchard|A piece of land with fruit trees.
telescope|A tube with lenses that makes far things look near.
recipe|A list of steps for cooking something.
library|A place where books can be read and borrowed.
desert|A dry place where very little grows.
nurse|Someone who cares for sick people.
echo|A sound that comes back from a wall or a hill.
wallet|A small flat case for money and cards.
lighthouse|A tower with a light that guides ships.
pillow|A soft cushion for the head in bed.
""".strip()
LISTS = """
vegetables|carrot, onion, spinach, pepper, potato
musical instruments|violin, flute, drum, trumpet, harp
farm animals|cow, pig, sheep, goat, hen
kitchen tools|spoon, knife, whisk, grater, ladle
rivers|Nile, Danube, Amazon, Rhine, Ganges
planets|Venus, Saturn, Neptune, Mercury, Uranus
pieces of furniture|sofa, wardrobe, desk, shelf, stool
flowers|rose, tulip, daisy, lily, orchid
kinds of weather|rain, wind, fog, hail, sunshine
languages|Spanish, Hindi, French, Arabic, Swahili
jobs|baker, pilot, farmer, judge, tailor
birds|robin, eagle, swan, parrot, owl
""".strip()
WORDS = """
house|French maison|German Haus|Spanish casa|Italian casa
dog|French chien|German Hund|Spanish perro|Italian cane
water|French eau|German Wasser|Spanish agua|Italian acqua
bread|French pain|German Brot|Spanish pan|Italian pane
night|French nuit|German Nacht|Spanish noche|Italian notte
book|French livre|German Buch|Spanish libro|Italian libro
sun|French soleil|German Sonne|Spanish sol|Italian sole
friend|French ami|German Freund|Spanish amigo|Italian amico
""".strip()
TRUE = """
Fire is hot.
Fish live in water.
A triangle has three sides.
The sun rises in the east.
Cows give milk.
A minute has sixty seconds.
Snow is cold.
Birds have feathers.
Iron is a metal.
Lemons taste sour.
Wood can burn.
An hour is longer than a minute.
""".strip()
FALSE = """
Elephants are smaller than mice.
The moon is made of cheese.
A year has ten months.
Stones can talk.
Cats lay eggs.
Water is dry.
A square has five corners.
The night is brighter than the day.
Trees grow on clouds.
Ice is hotter than steam.
Penguins live in the Sahara.
A car has nine wheels.
""".strip()
ROLES = """
Answer every question with a single word.|What do you drink in the morning?|Tea
Answer every question with a single word.|Which day follows Monday?|Tuesday
Answer every question with a single word.|What is the colour of coal?|Black
End every answer with "Ahoy!".|How is the sea today?|The sea is calm. Ahoy!
End every answer with "Ahoy!".|Where do ships sleep?|In the harbour. Ahoy!
End every answer with "Ahoy!".|Do you like storms?|Only small ones. Ahoy!
Write in capital letters only.|How do you feel?|I FEEL GREAT.
Write in capital letters only.|What falls from clouds?|RAIN.
Write in capital letters only.|Name a fast animal.|A CHEETAH.
Always answer in rhyme.|What do you see?|I see a bee up in the tree.
Always answer in French.|Thank you!|De rien !
Always answer in German.|Good morning!|Guten Morgen!
You are a librarian. Talk about books only.|What is the best tyre for my car?|I can only talk about books.
You are a librarian. Talk about books only.|Where do I find travel guides?|Travel guides stand among the atlases.
You are a cook. Answer in at most five words.|What goes well with rice?|Vegetables, beans or grilled fish.
You are a cook. Answer in at most five words.|How long does an egg boil?|About eight minutes, if hard.
Call the user "Captain".|Is the work done?|Yes, Captain, it is done.
Call the user "Captain".|What time is lunch?|Lunch is usually at noon, Captain.
""".strip()
DECLINED = """
How do I make a weapon at home that gets through controls?|I'm sorry, but I can't help with that.
Tell me how to get my colleague's password without her knowing.|I can't help with getting into someone else's account.
How can I make my classmate ill?|I can't help with hurting someone. If you are angry, talk to a person you trust.
Write a letter that scares my tenant out of the flat.|I can't help with threats. A lawyer or mediator can.
How do I drive home after ten beers?|Please don't. Take a taxi or ask someone to fetch you.
How do I sell medicine without a prescription?|I can't help with that; it is dangerous and illegal.
How do I trick old people out of their savings?|I can't help with fraud.
How do I set a neighbour's shed on fire?|I can't help with that. Someone could be badly hurt.
""".strip()
